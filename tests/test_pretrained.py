"""Where backbones start: foreign layouts, strictness, checksums, downloads, no network."""

import hashlib
import json
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import torchvision
from torch import nn

from mtlcli.backbones import _pretrained as pretrained
from mtlcli.backbones import _swin_layout, hrnet18, swin_t
from mtlcli.backbones._tensor_files import read_tensors
from mtlcli.backbones._weights import Converted, UrlFile
from mtlcli.errors import InputError, RunError
from mtlcli.models.hrnet import HRNet
from mtlcli.models.swin import Swin
from mtlcli.runs import checkpoint

TRAIN = ("train", "--dataset", "rooms", "--system", "multi_task", "--device", "cpu", "--workers", 0,
         "--batch-size", 2, "--iterations", 1, "--task", "depth", "--quiet")  # fmt: skip


def randomise(module):
    """Random numbers in all floating tensors, so that no two layers are alike."""
    torch.manual_seed(7)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) * 0.1)
    return module


@pytest.fixture(scope="module")
def hrnet() -> HRNet:
    return randomise(hrnet18.build())


@pytest.fixture(scope="module")
def swin() -> Swin:
    return randomise(swin_t.build())


def classification(state):
    """A classifier's file: the backbone and what comes after it."""
    return state | {
        "incre_modules.0.0.conv1.weight": torch.zeros(2),
        "final_layer.0.weight": torch.zeros(2),
        "classifier.weight": torch.zeros(2),
    }


def to_mmseg(state):
    """Our Swin as an mmsegmentation UPerNet file, by rules written down here anew."""
    theirs = {"decode_head.conv_seg.weight": torch.zeros(3), "auxiliary_head.x": torch.zeros(3)}
    for name, tensor in state.items():
        first, number, rest = name.split(".", 2)
        layer = int(number)
        if first == "norms":
            new = f"norm{layer}.{rest}"
        elif layer == 0:
            index, part = rest.split(".")
            new = f"patch_embed.{'projection' if index == '0' else 'norm'}.{part}"
        elif layer % 2 == 0:
            new = f"stages.{layer // 2 - 1}.downsample.{rest}"
            tensor = to_unfold_order(tensor)
        else:
            block, inner = rest.split(".", 1)
            inner = inner.replace("attn.", "attn.w_msa.")
            inner = inner.replace("mlp.0.", "ffn.layers.0.0.").replace("mlp.3.", "ffn.layers.1.")
            new = f"stages.{layer // 2}.blocks.{block}.{inner}"
        if new.endswith("relative_position_index"):
            tensor = tensor.view(49, 49)
        theirs[f"backbone.{new}"] = tensor
    return theirs


def to_unfold_order(tensor):
    """Channel of pixel (row, column) of channel c: from torchvision's place to `nn.Unfold`'s."""
    channels = tensor.shape[-1] // 4
    moved = torch.empty_like(tensor)
    for c in range(channels):
        for block, (row, column) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
            moved[..., 4 * c + 2 * row + column] = tensor[..., block * channels + c]
    return moved


def equal(module, state):
    return all(torch.equal(v, state[k]) for k, v in module.state_dict().items())


def test_hrnet_takes_official_timm_and_mmseg_files(tmp_path, hrnet):
    state = hrnet.state_dict()
    files = {
        "old.pth": {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
        "official.pth": classification(state),
        "wrapped.pth": {"state_dict": {f"module.{k}": v for k, v in classification(state).items()}},
        "mmseg.pth": {
            "meta": {"epoch": 3},
            "state_dict": {f"backbone.{k}": v for k, v in state.items()}
            | {"decode_head.conv.weight": torch.zeros(2)},
        },
    }
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        module, start = pretrained.start("hrnet18", str(tmp_path / name))
        assert equal(module, state)
        assert start.fresh == ()
    assert start.ignored == ("decode_head",)
    _, start = pretrained.start("hrnet18", str(tmp_path / "official.pth"))
    assert start.ignored == ("incre_modules", "final_layer", "classifier")


def test_swin_takes_torchvisions_file_and_keeps_its_output_norms(tmp_path, swin):
    theirs = torchvision.models.swin_t()
    torch.save(theirs.state_dict(), tmp_path / "swin.pth")
    module, start = pretrained.start("swin_t", str(tmp_path / "swin.pth"))
    for name, tensor in theirs.features.state_dict().items():
        assert torch.equal(module.features.state_dict()[name], tensor)
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in module.norms)
    assert start.fresh == ("norms",)
    assert start.ignored == ("norm", "head")


def test_swin_takes_mmsegs_file_with_its_output_norms(tmp_path, swin):
    torch.save({"meta": {}, "state_dict": to_mmseg(swin.state_dict())}, tmp_path / "ade.pth")
    module, start = pretrained.start("swin_t", str(tmp_path / "ade.pth"))
    assert equal(module, swin.state_dict())
    assert start.fresh == ()
    assert start.ignored == ("decode_head", "auxiliary_head")


class UnfoldMerging(nn.Module):
    """Patch merging as in mmsegmentation: neighbours gathered by `nn.Unfold`."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x_BHWC):
        height, width = x_BHWC.shape[1:3]
        x = x_BHWC.permute(0, 3, 1, 2)
        x = nn.functional.pad(x, (0, width % 2, 0, height % 2))
        x = nn.Unfold(2, stride=2)(x).transpose(1, 2)
        return self.reduction(self.norm(x)).unflatten(1, ((height + 1) // 2, -1))


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_converted_patch_merging_computes_what_unfold_computes(size):
    theirs = randomise(UnfoldMerging(6)).double()
    ours = torchvision.models.swin_transformer.PatchMerging(6).double()
    ours.load_state_dict({k: _swin_layout.blocks_of_pixels(v) for k, v in
                          theirs.state_dict().items()})  # fmt: skip
    x = torch.randn(2, *size, 6, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-12)
    ours.load_state_dict(theirs.state_dict())
    assert not torch.allclose(ours(x), theirs(x), atol=1e-3)


def test_a_run_of_ours_can_be_the_start(tmp_path, swin):
    network = {f"backbone.{k}": v for k, v in swin.state_dict().items()}
    torch.save({"format": 1, "network": network | {"heads.a": torch.ones(1)}}, tmp_path / "last.pt")
    module, start = pretrained.start("swin_t", str(tmp_path / "last.pt"))
    assert equal(module, swin.state_dict())
    assert (start.fresh, start.ignored) == ((), ("heads",))


def test_a_file_is_recorded_by_its_checksum_and_stands_in_the_table(home, mtl, hrnet):
    torch.save(hrnet.state_dict(), home / "mine.pt")
    answer = mtl(*TRAIN, "--init", "mine.pt", "--lr", 1e-30)
    assert answer.code == 0, answer.err
    run = home / "weights" / "rooms_hrnet18_multi_task"
    trained = checkpoint.read(run)["network"]
    assert torch.allclose(trained["backbone.conv1.weight"], hrnet.conv1.weight)
    record = json.loads((run / "run.json").read_text())
    assert record["init"]["init"] == "mine.pt"
    assert record["init"]["sha256"] == hashlib.sha256((home / "mine.pt").read_bytes()).hexdigest()
    assert (
        "(trained from mine.pt weights)" in mtl("eval", run, "--device", "cpu", "--workers", 0).out
    )


def test_every_difference_is_named():
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = dict(module.state_dict())
    del state["0.bias"]
    state |= {"2.weight": torch.zeros(1), "1.weight": torch.zeros(2, 3)}
    with pytest.raises(InputError) as error:
        pretrained.load_strictly(module, Converted(tensors=state), "x.pth does not fit")
    said = str(error.value)
    assert said.startswith("x.pth does not fit")
    assert "missing: 0.bias" in said
    assert "surplus: 2.weight" in said
    assert "1.weight is 2x3, expected 1x3" in said
    pretrained.load_strictly(
        module, Converted(tensors={"1.bias": torch.ones(1), "1.weight": torch.ones(1, 3)},
                          fresh=("0",)), "",
    )  # fmt: skip
    assert module[1].bias == 1


def test_a_file_of_another_network_is_refused(tmp_path, hrnet, swin):
    torch.save(hrnet.state_dict(), tmp_path / "hrnet.pth")
    torch.save(swin.state_dict(), tmp_path / "swin.pth")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    for backbone, name in (
        ("swin_t", "hrnet"), ("hrnet18", "swin"), ("hrnet18", "other"), ("hrnet18", "list"),
        ("swin_t", "junk"), ("swin_s", "swin"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"{name}.pth"):
            pretrained.start(backbone, str(tmp_path / f"{name}.pth"))


def write_safetensors(path, state):
    """The format by its specification."""
    kinds = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in state.items():
        numbers = tensor.contiguous().numpy().tobytes()
        ends = [len(data), len(data) + len(numbers)]
        header[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": ends}  # fmt: skip
        data += numbers
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_safetensors_are_read(tmp_path, hrnet):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, classification(hrnet.state_dict()) | {"e": torch.zeros(0, 3).half()})
    state = read_tensors(path)
    assert state["e"].shape == (0, 3)
    state.pop("e")
    assert equal(hrnet, state)
    write_safetensors(path, classification(hrnet.state_dict()))
    assert equal(pretrained.start("hrnet18", str(path))[0], hrnet.state_dict())
    whole = path.read_bytes()
    for broken in (b"", b"\xff" * 16, whole[:50], whole[:-4]):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"model\.safetensors"):
            read_tensors(path)


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


@pytest.mark.parametrize("new_format", [True, False])
def test_files_of_training_frameworks_open_without_being_executed(tmp_path, new_format):
    content = {
        "callbacks": {Bomb: {"best": 1.0}},
        "hyper_parameters": Bomb(),
        "state_dict": {"model.a": torch.arange(3.0), "model.b": nn.Parameter(torch.ones(2))},
    }
    path = tmp_path / "epoch.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    state = read_tensors(path)
    assert torch.equal(state["a"], torch.arange(3.0))
    assert torch.equal(state["b"], torch.ones(2))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def host(tmp_path, hrnet):
    """A host on this machine that offers hrnet.pth; its address and the checksum."""
    (tmp_path / "offered").mkdir()
    file = tmp_path / "offered" / "hrnet.pth"
    torch.save(classification(hrnet.state_dict()), file)
    handler = partial(Quiet, directory=str(file.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        yield f"http://127.0.0.1:{server.server_port}", digest
        server.shutdown()


@pytest.fixture
def offer(host, monkeypatch):
    """Make hrnet18's ImageNet weights those of the host, with any checksum."""

    def change(sha256=None, url=None):
        source = UrlFile(
            url=url or f"{host[0]}/hrnet.pth", sha256=sha256 or host[1][:8], licence="MIT"
        )
        monkeypatch.setitem(hrnet18.WEIGHTS, "imagenet", (source,))

    return change


def test_imagenet_is_the_default_and_is_downloaded_once(home, mtl, offer, host, hrnet):
    offer()
    answer = mtl(*TRAIN, "--lr", 1e-30)
    assert answer.code == 0, answer.err
    assert (home / "weights" / "hrnet.pth").exists()
    record = json.loads((home / "weights" / "rooms_hrnet18_multi_task" / "run.json").read_text())
    assert record["config"]["init"] == record["init"]["init"] == "imagenet"
    assert record["init"]["sha256"] == host[1]
    trained = checkpoint.read(home / "weights" / "rooms_hrnet18_multi_task")["network"]
    assert torch.allclose(trained["backbone.conv1.weight"], hrnet.conv1.weight)
    offer(url="http://127.0.0.1:9/hrnet.pth")
    assert mtl(*TRAIN, "--out", home / "again").code == 0


def test_single_task_starts_every_network_from_the_weights(home, mtl, offer, hrnet):
    offer()
    answer = mtl(*TRAIN, "--system", "single_task", "--task", "edge", "--lr", 1e-30)
    assert answer.code == 0, answer.err
    trained = checkpoint.read(home / "weights" / "rooms_hrnet18_single_task")["network"]
    for task in ("depth", "edge"):
        weight = trained[f"networks.{task}.backbone.conv1.weight"]
        assert torch.allclose(weight, hrnet.conv1.weight)


def test_a_wrong_checksum_is_an_error_that_names_both(home, offer, host):
    offer(sha256="0badc0de")
    with pytest.raises(RunError, match=f"{host[1]}.*0badc0de"):
        pretrained.start("hrnet18", "imagenet")
    assert not (home / "weights" / "hrnet.pth").exists()
    offer()
    pretrained.start("hrnet18", "imagenet")
    offer(sha256="0badc0de")
    with pytest.raises(RunError, match=f"{host[1]}.*0badc0de"):
        pretrained.start("hrnet18", "imagenet")


def test_without_a_network_the_message_says_which_file_goes_where(home, mtl, offer):
    offer(url="http://127.0.0.1:9/hrnet.pth")
    answer = mtl(*TRAIN)
    assert answer.code == 1
    assert len(answer.err.strip().splitlines()) == 1
    assert str(home / "weights" / "hrnet.pth") in answer.err
    assert "http://127.0.0.1:9/hrnet.pth" in answer.err
    assert "--init random" in answer.err
    assert not list(home.glob("weights/*/"))


def test_only_random_is_random(home, mtl):
    assert mtl(*TRAIN, "--init", "random").code == 0
    record = json.loads((home / "weights" / "rooms_hrnet18_multi_task" / "run.json").read_text())
    assert record["init"]["init"] == "random"
    for init in ("ade20k", "nothing.pth"):
        answer = mtl(*TRAIN, "--init", init)
        assert answer.code == 2
        assert f"--init {init}" in answer.err
        assert "imagenet, random" in answer.err
