"""HRNet, ResNet and Swin: published sizes, names, shapes and starts, and images of odd sizes."""

import math

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torchvision.ops import StochasticDepth

from mtlcli.backbones import hrnet18, resnet18_half, swin_s, swin_t
from mtlcli.models.conv_head import hypercolumn
from mtlcli.models.resnet import BasicBlock, ResNet
from tests.released_hrnet import released_maps

SIZES = [(425, 560), (480, 640), (512, 512), (97, 131), (33, 33)]


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("backbone", "count"), [(hrnet18, 3_860_720), (swin_t, 27_520_698), (swin_s, 48_838_602)]
)
def test_number_of_parameters(backbone, count):
    with torch.device("meta"):
        assert parameters(backbone.build()) == count


@pytest.mark.parametrize("backbone", [hrnet18, swin_t])
@pytest.mark.parametrize("size", SIZES)
def test_four_maps_at_strides_4_to_32_rounded_up(backbone, size):
    with torch.device("meta"):
        network = backbone.build()
        maps = network(torch.empty(2, 3, *size))
    for level, (x, channels) in enumerate(zip(maps, network.channels, strict=True)):
        stride = 2 ** (level + 2)
        assert x.shape == (2, channels, -(-size[0] // stride), -(-size[1] // stride))


def test_sizes_of_the_paper():
    with torch.device("meta"):
        maps = swin_t.build()(torch.empty(1, 3, 425, 560))
    assert [tuple(x.shape[2:]) for x in maps] == [(107, 140), (54, 70), (27, 35), (14, 18)]


def normed(name, norm, shape):
    """A convolution without bias and its batch norm, as (key, shape)."""
    yield f"{name}.weight", shape
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{norm}.{part}", (shape[0],)
    yield f"{norm}.num_batches_tracked", ()


def official_hrnet_state():
    """Key and shape of every tensor of HRNet-W18-C-Small-v2, by the rules of the official code."""
    widths = (18, 36, 72, 144)
    yield from normed("conv1", "bn1", (64, 3, 3, 3))
    yield from normed("conv2", "bn2", (64, 64, 3, 3))
    for block, inputs in enumerate((64, 256)):
        at = f"layer1.{block}"
        for i, shape in enumerate(((64, inputs, 1, 1), (64, 64, 3, 3), (256, 64, 1, 1)), 1):
            yield from normed(f"{at}.conv{i}", f"{at}.bn{i}", shape)
    yield from normed("layer1.0.downsample.0", "layer1.0.downsample.1", (256, 64, 1, 1))
    yield from normed("transition1.0.0", "transition1.0.1", (18, 256, 3, 3))
    for i, (before, after) in enumerate(((256, 36), (36, 72), (72, 144)), 1):
        at = f"transition{i}.{i}.0"
        yield from normed(f"{at}.0", f"{at}.1", (after, before, 3, 3))
    for stage, modules in ((2, 1), (3, 3), (4, 2)):
        for module in range(modules):
            yield from official_exchange(f"stage{stage}.{module}", widths[:stage])


def official_exchange(at, widths):
    for branch, width in enumerate(widths):
        for block in range(2):
            for i in (1, 2):
                name = f"{at}.branches.{branch}.{block}"
                yield from normed(f"{name}.conv{i}", f"{name}.bn{i}", (width, width, 3, 3))
    for i, target in enumerate(widths):
        for j, source in enumerate(widths):
            name = f"{at}.fuse_layers.{i}.{j}"
            if j > i:
                yield from normed(f"{name}.0", f"{name}.1", (target, source, 1, 1))
            for k in range(i - j):
                outputs = target if k == i - j - 1 else source
                yield from normed(f"{name}.{k}.0", f"{name}.{k}.1", (outputs, source, 3, 3))


def test_hrnet_loads_the_official_names_strictly():
    state = {name: torch.full(shape, 0.5) for name, shape in official_hrnet_state()}
    network = hrnet18.build()
    network.load_state_dict(state, strict=True)
    assert all((x == 0.5).all() for x in network.state_dict().values() if x.is_floating_point())


def unlike_anywhere(module):
    """Random numbers in all tensors, norms included, so that no layer is trivial."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.add_(0.1 * torch.randn_like(tensor))
    return module.eval()


@pytest.mark.parametrize("size", [(425, 560), (375, 500), (97, 131), (64, 96)])
def test_hrnet_computes_the_released_networks_maps_bit_for_bit(size):
    network = unlike_anywhere(hrnet18.build())
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        found, expected = network(image), released_maps(network.state_dict(), image)
    for x, y in zip(found, expected, strict=True):
        assert x.std() > 0.1
        torch.testing.assert_close(x, y, rtol=0, atol=0)


def test_hrnet_is_timms_but_for_how_maps_are_enlarged():
    ours = unlike_anywhere(hrnet18.build())
    theirs = timm.create_model("hrnet_w18_small_v2", features_only=True, feature_location="")
    theirs.load_state_dict(ours.state_dict(), strict=False)
    for module in theirs.eval().modules():
        if isinstance(module, torch.nn.Upsample):
            module.mode = "bilinear"
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps = theirs(image)[-4:]
        for x, y in zip(ours(image), maps, strict=True):
            torch.testing.assert_close(x, y)


def test_resnet_takes_torchvisions_weights_and_computes_the_same():
    theirs, ours = unlike_anywhere(torchvision.models.resnet18()), ResNet((64, 128, 256, 512), 2)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values())))
    x = image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for layer in (theirs.conv1, theirs.bn1, theirs.relu, theirs.maxpool):
            x = layer(x)
        stages = (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4)
        for found, stage in zip(ours.eval()(image), stages, strict=True):
            x = stage(x)
            torch.testing.assert_close(found, x)


@pytest.mark.parametrize("backbone", [hrnet18, resnet18_half])
def test_kernels_start_as_he_et_al_by_the_number_of_outputs(backbone):
    """Normal, of variance 2 / (outputs x places); five standard errors of a deviation."""
    torch.manual_seed(0)
    for module in backbone.build().modules():
        if isinstance(module, torch.nn.Conv2d):
            places = math.prod(module.kernel_size)
            expected = math.sqrt(2 / (module.out_channels * places))
            found, count = module.weight.std().item(), module.weight.numel()
            assert found == pytest.approx(expected, rel=5 / math.sqrt(2 * count))


def test_the_blocks_of_a_resnet_start_as_their_shortcuts():
    torch.manual_seed(0)
    blocks = [m for m in resnet18_half.build().modules() if isinstance(m, BasicBlock)]
    assert len(blocks) == 8
    for block in blocks:
        x = torch.randn(2, block.conv1.in_channels, 6, 6)
        shortcut = x if block.downsample is None else block.downsample(x)
        torch.testing.assert_close(block(x), torch.relu(shortcut))


def test_swin_takes_torchvisions_weights_and_computes_the_same():
    torch.manual_seed(0)
    theirs = torchvision.models.swin_t().eval()
    state = {k: v for k, v in theirs.state_dict().items() if k.startswith("features.")}
    ours = swin_t.build().eval()
    missing, surplus = ours.load_state_dict(state, strict=False)
    assert surplus == []
    assert set(missing) == {f"norms.{i}.{part}" for i in range(4) for part in ("weight", "bias")}
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        last = theirs.features(image)
        expected = F.layer_norm(last, last.shape[-1:], eps=1e-5).permute(0, 3, 1, 2)
        torch.testing.assert_close(ours(image)[3], expected)


def test_swin_sees_an_odd_image_as_one_padded_with_zeros_to_whole_patches():
    torch.manual_seed(0)
    network = swin_t.build().eval()
    image = torch.randn(1, 3, 33, 46)
    padded = torch.zeros(1, 3, 36, 48)
    padded[..., :33, :46] = image
    with torch.no_grad():
        for x, y in zip(network(image), network(padded), strict=True):
            torch.testing.assert_close(x, y, rtol=0, atol=0)


@pytest.mark.parametrize(("backbone", "blocks"), [(swin_t, 12), (swin_s, 24)])
def test_swin_drop_path_grows_to_a_tenth(backbone, blocks):
    with torch.device("meta"):
        layers = [m.p for m in backbone.build().modules() if isinstance(m, StochasticDepth)]
    expected = torch.linspace(0, 0.1, blocks).tolist()
    assert sorted(set(layers)) == pytest.approx(expected)


def test_hypercolumn_keeps_the_finest_map_and_resizes_the_others():
    fine, coarse = torch.randn(2, 3, 5, 7), torch.randn(2, 4, 3, 4)
    x = hypercolumn([fine, coarse])
    expected = F.interpolate(coarse, (5, 7), mode="bilinear", align_corners=False)
    torch.testing.assert_close(x, torch.cat((fine, expected), 1), rtol=0, atol=0)
