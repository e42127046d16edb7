"""Files of weights in the layouts people have: each makes our network compute timm's maps."""

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from mtlcli.backbones import _pretrained as pretrained
from mtlcli.backbones import swin_t
from mtlcli.errors import InputError

TIMM = "swin_tiny_patch4_window7_224"
WIDTHS = (96, 192, 384, 768)


@pytest.fixture(scope="module")
def swin():
    """timm's Swin-T with random numbers everywhere, so that no layer is trivial."""
    torch.manual_seed(2)
    model = timm.create_model(TIMM).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(0.02 * torch.randn_like(tensor))
    return model


@pytest.fixture(scope="module")
def norms():
    """Weight and bias of the LayerNorms that dense networks put on the four maps."""
    torch.manual_seed(3)
    return [(1 + 0.1 * torch.randn(c), 0.1 * torch.randn(c)) for c in WIDTHS]


@pytest.fixture(scope="module")
def maps(swin):
    """A picture of whole windows at every stage, and timm's four maps of it, without norms."""
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        found = swin.forward_intermediates(image, intermediates_only=True, output_fmt="NCHW")
    return image, found[-4:]


def renamed(state, changes):
    """Each name with all replacements made, in order."""
    out = {}
    for name, tensor in state.items():
        for old, new in changes.items():
            name = name.replace(old, new)
        out[name] = tensor
    return out


def microsofts(swin):
    """Merging ends a stage there, and what follows from sizes is kept in the file."""
    stages = {f"layers.{i + 1}.downsample": f"layers.{i}.downsample" for i in range(3)}
    state = renamed(swin.state_dict(), stages | {"head.fc.": "head."})
    for name in [n for n in state if n.endswith("relative_position_bias_table")]:
        at = name.removesuffix("attn.relative_position_bias_table")
        own = swin.get_submodule(f"{at}attn").relative_position_index
        state[f"{at}attn.relative_position_index"] = own
        if ".blocks.1." in name:
            state[f"{at}attn_mask"] = torch.zeros(4, 49, 49)
    return state


def unfolded(tensor):
    """The merged channels as `nn.Unfold` orders them: by channel, then row, then column."""
    channels = tensor.shape[-1] // 4
    moved = torch.empty_like(tensor)
    for place, (row, column) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
        block = tensor[..., place * channels : (place + 1) * channels]
        moved[..., 2 * row + column :: 4] = block
    return moved


def mmsegs(swin):
    changes = {"patch_embed.proj.": "patch_embed.projection.", "layers.": "stages.",
               "attn.": "attn.w_msa.", "mlp.fc1.": "ffn.layers.0.0.",
               "mlp.fc2.": "ffn.layers.1."}  # fmt: skip
    state = renamed(microsofts(swin), changes)
    return {k: unfolded(v) if "downsample" in k else v for k, v in state.items()}


def transformers(swin):
    state = {}
    for name, tensor in microsofts(swin).items():
        if "qkv" in name:
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                state[name.replace("qkv", f"self.{part}")] = piece
        elif not name.endswith("attn_mask"):
            state[name] = tensor
    changes = {"attn.relative": "attn.self.relative", "attn.proj": "attn.output.dense",
               "attn.": "attention.", "norm1": "layernorm_before", "norm2": "layernorm_after",
               "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense",
               "layers.": "encoder.layers.", "patch_embed.norm": "embeddings.norm",
               "patch_embed.proj": "embeddings.patch_embeddings.projection"}  # fmt: skip
    return renamed(state, changes)


def body(state):
    """Without what classifies."""
    return {k: v for k, v in state.items() if not k.startswith(("norm.", "head."))}


def dense(state, norms, name):
    """Inside a segmentation network, with output norms called `name`, from 0 or 1 upwards."""
    outputs = {}
    for i, (weight, bias) in enumerate(norms):
        outputs |= {
            name.format(i, i + 1) + ".weight": weight,
            name.format(i, i + 1) + ".bias": bias,
        }
    whole = {f"backbone.{k}": v for k, v in (body(state) | outputs).items()}
    return whole | {"decode_head.conv_seg.weight": torch.zeros(3)}


def classifier(state):
    """As transformers keep a classifier: the backbone as `swin`."""
    whole = {f"swin.{k}": v for k, v in body(state).items()}
    return whole | {"swin.layernorm.weight": torch.zeros(768), "classifier.bias": torch.zeros(9)}


FILES = {  # its tensors, whether it has output norms, what of it is no backbone's
    "timm": (lambda s, n: s.state_dict(), False, ("norm", "head")),
    "microsoft": (lambda s, n: microsofts(s), False, ("norm", "head")),
    "swin_segmentation": (
        lambda s, n: dense(microsofts(s), n, "norm{0}"), True, ("decode_head",)),
    "mmseg_imagenet": (lambda s, n: mmsegs(s), False, ("norm", "head")),
    "mmseg_imagenet_prefixed": (
        lambda s, n: {f"backbone.{k}": v for k, v in mmsegs(s).items()}, False, ("norm", "head")),
    "mmseg_ade20k": (
        lambda s, n: dense(mmsegs(s), n, "norm{0}"), True, ("decode_head",)),
    "transformers_upernet": (
        lambda s, n: dense(transformers(s), n, "hidden_states_norms.stage{1}"), True,
        ("decode_head",)),
    "transformers_classifier": (
        lambda s, n: classifier(transformers(s)), False, ("classifier", "layernorm")),
}  # fmt: skip


@pytest.fixture(scope="module")
def network():
    return swin_t.build().eval()


@pytest.mark.parametrize("layout", FILES)
def test_swin_from_any_layout_computes_timms_maps(network, swin, norms, maps, layout):
    make, normed, ignored = FILES[layout]
    converted = swin_t.BACKBONE.convert(make(swin, norms))
    assert converted.ignored == ignored
    assert converted.fresh == (() if normed else ("norms",))
    for norm in network.norms:
        norm.reset_parameters()
    pretrained.load_strictly(network, converted, layout)
    image, expected = maps
    with torch.no_grad():
        found = network(image)
    for x, y, (weight, bias) in zip(found, expected, norms, strict=True):
        scale = (weight, bias) if normed else (None, None)
        y = F.layer_norm(y.permute(0, 2, 3, 1), y.shape[1:2], *scale).permute(0, 3, 1, 2)
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_microsofts_file_is_a_start_and_no_other_size_of_it(tmp_path, swin):
    torch.save({"model": microsofts(swin)}, tmp_path / "swin_tiny.pth")
    backbone, start = pretrained.start("swin_t", str(tmp_path / "swin_tiny.pth"))
    weight = swin.layers[0].blocks[1].attn.qkv.weight
    assert torch.equal(backbone.features[1][1].attn.qkv.weight, weight)
    assert (start.ignored, start.fresh) == (("norm", "head"), ("norms",))
    with pytest.raises(InputError, match=r"missing: features\.5\.6\.norm1\.weight"):
        pretrained.start("swin_s", str(tmp_path / "swin_tiny.pth"))


def test_hrnet_takes_timms_file(tmp_path):
    torch.manual_seed(4)
    theirs = timm.create_model("hrnet_w18_small_v2").state_dict()
    save_file(theirs, tmp_path / "model.safetensors")
    backbone, start = pretrained.start("hrnet18", str(tmp_path / "model.safetensors"))
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    assert start.fresh == ()
    assert set(start.ignored) == {"incre_modules", "downsamp_modules", "final_layer", "classifier"}


def test_half_an_attention_is_told_by_what_is_missing(network, swin, norms):
    state = dense(transformers(swin), norms, "hidden_states_norms.stage{1}")
    del state["backbone.encoder.layers.0.blocks.0.attention.self.key.weight"]
    with pytest.raises(InputError, match=r"missing: features\.1\.0\.attn\.qkv\.weight"):
        pretrained.load_strictly(network, swin_t.BACKBONE.convert(state), "upernet.bin")


@pytest.mark.parametrize(
    ("backbone", "layouts"),
    [("swin_t", ("torchvision", "Microsoft", "timm", "mmsegmentation", "transformers")),
     ("hrnet18", ("official", "timm", "mmsegmentation"))],
)  # fmt: skip
def test_a_file_of_no_known_layout_is_told_which_are_known(tmp_path, backbone, layouts):
    torch.save({"stem.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(InputError) as error:
        pretrained.start(backbone, str(tmp_path / "other.pth"))
    assert all(layout in str(error.value) for layout in layouts)
