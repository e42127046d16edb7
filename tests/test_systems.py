"""All systems on all backbones: published sizes, gradients, what must not change a prediction."""

import pytest
import torch
from torchvision.ops import StochasticDepth

from mtlcli.backbones import hrnet18, swin_s, swin_t
from mtlcli.errors import InputError
from mtlcli.models.conv_head import ConvHead
from mtlcli.systems import demt, demt_itsa, mqtransformer, multi_task, single_task
from mtlcli.systems._network import Network

NYUD = {"semseg": 40, "depth": 1, "normals": 3, "edge": 1}
PASCAL = {"semseg": 21, "human_parts": 7, "sal": 2, "normals": 3, "edge": 1}
ROOMS = {"semseg": 13, "depth": 1, "normals": 3, "edge": 1, "human_parts": 7, "sal": 2}
SMALL = {
    single_task: {"hidden": 8},
    multi_task: {"hidden": 8},
    mqtransformer: {"width": 32, "queries": 4},
    demt: {"width": 32},
    demt_itsa: {"width": 32, "position_channels": 8, "points": 2, "feedforward": 32},
}
SYSTEMS = pytest.mark.parametrize("system", SMALL, ids=lambda s: s.__name__.split(".")[-1])


def name(module):
    return module.__name__.split(".")[-1]


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def on_meta(system, tasks, backbone=hrnet18, **settings):
    with torch.device("meta"):
        return system.build(tasks, backbone.build(), **settings)


class Backbone(torch.nn.Module):
    """A small one, for what does not depend on it."""

    channels = (4, 8, 8, 16)

    def __init__(self):
        super().__init__()
        sizes = zip((3, 4, 8, 8), self.channels, (4, 2, 2, 2))
        self.stages = torch.nn.ModuleList(
            torch.nn.Conv2d(i, o, 3, stride=stride, padding=1) for i, o, stride in sizes
        )

    def forward(self, x):
        maps = []
        for stage in self.stages:
            x = torch.relu(stage(x))
            maps.append(x)
        return maps


def small(system, tasks=NYUD, seed=0, **settings):
    torch.manual_seed(seed)
    return system.build(tasks, Backbone(), **{**SMALL[system], **settings})


def warmed_up(network, image):
    """The network in eval mode with statistics of activations from a few images."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        network.train()(image)
    return network.eval()


TOTALS = [
    (multi_task, hrnet18, NYUD, 4_515_556),
    (multi_task, hrnet18, PASCAL, 4_677_752),
    (multi_task, swin_t, NYUD, 32_502_471),
    (multi_task, swin_s, NYUD, 53_820_375),
    (single_task, hrnet18, NYUD, 16_097_716),
    (single_task, hrnet18, PASCAL, 20_120_632),
    (single_task, swin_t, NYUD, 115_064_565),
    (single_task, swin_s, NYUD, 200_336_181),
    (demt, hrnet18, NYUD, 6_748_218),
    (demt, swin_t, NYUD, 32_070_259),
    (demt, swin_s, NYUD, 53_388_163),
    (demt, hrnet18, PASCAL, 7_369_496),
    (demt, swin_t, PASCAL, 33_028_902),
    (demt, swin_s, PASCAL, 54_346_806),
    (demt_itsa, hrnet18, NYUD, 14_862_274),
    (demt_itsa, swin_t, NYUD, 40_184_315),
    (demt_itsa, swin_s, NYUD, 61_502_219),
    (demt_itsa, hrnet18, PASCAL, 15_969_120),
    (demt_itsa, swin_t, PASCAL, 41_628_526),
    (demt_itsa, swin_s, PASCAL, 62_946_430),
    (mqtransformer, hrnet18, NYUD, 8_317_981 - 1_049_344),  # less the dead patch embedding
    (mqtransformer, swin_t, NYUD, 32_126_695),
    (mqtransformer, swin_s, NYUD, 54_493_943 - 1_049_344),
]


@pytest.mark.parametrize(
    ("system", "backbone", "tasks", "count"),
    TOTALS,
    ids=lambda x: name(x) if hasattr(x, "build") else "",
)
def test_number_of_parameters(system, backbone, tasks, count):
    assert parameters(on_meta(system, tasks, backbone)) == count


@pytest.mark.parametrize(
    ("backbone", "steps_1"), [(hrnet18, 9_277_458), (swin_t, 34_599_499), (swin_s, 55_917_403)]
)
def test_one_or_tied_steps_of_demt_itsa(backbone, steps_1):
    assert parameters(on_meta(demt_itsa, NYUD, backbone, steps=1)) == steps_1
    assert parameters(on_meta(demt_itsa, NYUD, backbone, tied_steps=True)) == steps_1


def test_demt_of_half_width():
    assert parameters(on_meta(demt, NYUD, width=128)) == 4_764_730


@pytest.mark.parametrize(
    ("backbone", "tasks", "bottleneck", "logits", "mixers", "projection", "queries", "mlps"),
    [
        (hrnet18, NYUD, 304_392, 1_530, 864_328, 69_888, 1_052_672, 265_216),
        (swin_t, NYUD, 1_660_320, 8_145, 864_328, 369_408, 1_052_672, 265_216),
        (hrnet18, PASCAL, 380_490, 1_156, 1_080_410, 69_888, 1_315_840, 331_520),
        (swin_t, PASCAL, 2_075_400, 6_154, 1_080_410, 369_408, 1_315_840, 331_520),
    ],
)
def test_sizes_of_demts_parts(
    backbone, tasks, bottleneck, logits, mixers, projection, queries, mlps
):
    network = on_meta(demt, tasks, backbone)
    heads, decoder = network.heads.values(), network.decoder
    assert sum(parameters(head.bottleneck) for head in heads) == bottleneck
    assert sum(parameters(head.logits) for head in heads) == logits
    assert parameters(decoder.mixers) == mixers
    assert parameters(decoder.projection) == projection
    assert parameters(decoder.interaction.attention) == 263_168
    assert parameters(decoder.interaction.mlp) == 66_304
    assert sum(parameters(block.attention) for block in decoder.queries.blocks) == queries
    assert sum(parameters(block.mlp) for block in decoder.queries.blocks) == mlps
    mixer = decoder.mixers[0]
    parts = [mixer.channel[0], mixer.channel[2], mixer.spatial[2], *mixer.spatial[0].children()]
    assert [parameters(part) for part in parts] == [65_792, 512, 512, 41_490, 41_984, 65_792]


def test_sizes_of_mqtransformers_parts():
    decoder = on_meta(mqtransformer, NYUD).decoder
    assert parameters(decoder.projections) == 277_504
    assert decoder.queries.numel() == 65_536
    assert decoder.query_code.numel() == decoder.key_code.numel() == 16_384
    assert parameters(decoder.encoder) == 462_080
    assert parameters(decoder.exchange) == 263_168 + 512 + 132_096
    assert parameters(decoder.decoder) == 1_580_992
    assert parameters(decoder.decoder.in_windows) == 264_384


@SYSTEMS
@pytest.mark.parametrize("size", [(425, 560), (480, 640), (512, 512), (97, 131), (33, 33)])
def test_predictions_have_the_size_of_the_image(system, size):
    with torch.device("meta"):
        y = small(system).eval()(torch.empty(1, 3, *size))
    assert {task: tuple(x.shape) for task, x in y.items()} == {
        task: (1, channels, *size) for task, channels in NYUD.items()
    }


@SYSTEMS
def test_prediction_is_the_same_alone_and_in_a_batch(system):
    torch.manual_seed(0)
    image = torch.randn(3, 3, 40, 50)
    network = warmed_up(small(system), image)
    with torch.no_grad():
        together = network(image)
        for i in range(3):
            for task, alone in network(image[i : i + 1]).items():
                torch.testing.assert_close(together[task][i : i + 1], alone, rtol=1e-5, atol=1e-5)


@SYSTEMS
def test_order_of_tasks_changes_nothing(system):
    image = torch.randn(2, 3, 33, 40)
    with torch.no_grad():
        y = small(system).eval()(image)
        other = small(system, dict(reversed(NYUD.items()))).eval()(image)
    assert y.keys() == other.keys()
    for task in y:
        torch.testing.assert_close(y[task], other[task], rtol=0, atol=0)


@SYSTEMS
def test_one_task_is_enough(system):
    y = small(system, {"depth": 1})(torch.randn(2, 3, 33, 40))
    assert y["depth"].shape == (2, 1, 33, 40)
    y["depth"].sum().backward()


@pytest.mark.parametrize(
    ("system", "settings"),
    [
        (demt, {"interaction": "pixel", "query": "pixel"}),
        (demt, {"interaction": "self", "query": "pixel"}),
        (demt_itsa, {"query": "pixel", "downsampling": "conv1x1_maxpool", "levels": 2}),
        (demt_itsa, {"query": "deformable", "border": "zeros", "shared_convolutions": False}),
        (demt_itsa, {"position_channels": 0, "steps": 1, "levels": 1, "tied_steps": True}),
        (demt_itsa, {"position_grid": "repeated", "heads": 2, "gradient_scope": "module"}),
        (mqtransformer, {"attention": "self", "windows": False}),
    ],
)
def test_settings_build_networks_that_learn(system, settings):
    torch.manual_seed(1)
    image = torch.randn(2, 3, 33, 40)
    network = small(system, **settings)
    sum(y.square().mean() for y in network(image).values()).backward()
    assert all(p.grad is not None for p in network.parameters())
    warmed_up(network, image)
    with torch.no_grad():
        alone, together = network(image[:1]), network(image)
    for task, y in alone.items():
        torch.testing.assert_close(together[task][:1], y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tasks", [NYUD, PASCAL, ROOMS], ids=["nyud", "pascal", "rooms"])
@SYSTEMS
def test_every_parameter_of_a_decoder_receives_a_gradient(system, tasks):
    check_gradients(small(system, tasks), torch.randn(2, 3, 33, 40))


@pytest.mark.parametrize("backbone", [hrnet18, swin_t, swin_s], ids=name)
@SYSTEMS
def test_every_parameter_of_a_whole_network_receives_a_gradient(system, backbone):
    if system is single_task and backbone is swin_s:
        tasks = {"depth": 1, "edge": 1}  # copies of one network: two show it as well as four
    else:
        tasks = NYUD
    torch.manual_seed(0)
    network = system.build(tasks, backbone.build(), **SMALL[system])
    check_gradients(network, torch.randn(2, 3, 33, 40))


def check_gradients(network, image):
    for module in network.modules():
        if isinstance(module, StochasticDepth):
            module.p = 0.0
    sum(y.square().mean() for y in network(image).values()).backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_demt_itsa_can_be_exported():
    network, image = small(demt_itsa, query="deformable").eval(), torch.randn(1, 3, 33, 40)
    with torch.no_grad():
        exported = torch.export.export(network, (image,)).module()
        for task, y in network(image).items():
            torch.testing.assert_close(exported(image)[task], y)


def test_a_single_task_network_depends_on_its_own_weights_only():
    network, image = small(single_task).eval(), torch.randn(1, 3, 33, 40)
    with torch.no_grad():
        before = network(image)
        for p in network.networks["depth"].parameters():
            p.add_(1)
        after = network(image)
    assert {task for task in NYUD if not torch.equal(before[task], after[task])} == {"depth"}


def test_single_task_networks_start_from_the_given_backbone():
    backbone = Backbone()
    network = single_task.build(NYUD, backbone)
    for one in network.networks.values():
        for key, value in backbone.state_dict().items():
            copy = one.backbone.state_dict()[key]
            assert torch.equal(copy, value)
            assert copy.data_ptr() != value.data_ptr()


@pytest.mark.parametrize("dtype", [torch.bfloat16])
@SYSTEMS
def test_runs_under_autocast(system, dtype):
    network = small(system)
    with torch.autocast("cpu", dtype=dtype):
        y = network(torch.randn(2, 3, 33, 40))
    sum(x.float().square().mean() for x in y.values()).backward()
    assert all(x.isfinite().all() for x in y.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(("dropout", "same"), [(0.0, True), (0.1, False)])
def test_only_dropout_makes_training_random(dropout, same):
    network, x = small(demt_itsa, dropout=dropout), torch.randn(2, 3, 32, 40)
    first, second = network(x)["depth"], network(x)["depth"]
    assert torch.equal(first, second) == same


def test_logits_start_as_far_apart_as_their_weights():
    near, far = (small(demt_itsa, logits_deviation=d) for d in (0.01, 0.07))
    x = torch.randn(2, 3, 32, 40)
    for task, y in near.eval()(x).items():
        torch.testing.assert_close(far.eval()(x)[task], 7 * y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("system", "tasks", "settings", "message"),
    [
        (demt, {}, {}, "at least one task"),
        (multi_task, {"depth": 0}, {}, "'depth' needs at least 1 output channel, not 0"),
        (multi_task, NYUD, {"hidden": 0}, "hidden must be at least 1, not 0"),
        (demt, NYUD, {"heads": 0}, "heads must be at least 1, not 0"),
        (demt, NYUD, {"query": "self"}, "global or pixel, not 'self'"),
        (demt, NYUD, {"interaction": "local"}, "global, pixel, self, not 'local'"),
        (demt_itsa, NYUD, {"heads": 3}, r"3 heads must divide width 32 .*\(32 \+ 8 = 40\)"),
        (demt_itsa, NYUD, {"points": -1}, "points must be at least 1, not -1"),
        (demt_itsa, NYUD, {"query": "none"}, "global, pixel or deformable, not 'none'"),
        (demt_itsa, NYUD, {"dropout": 1.0}, "dropout must be from 0 to below 1, not 1.0"),
        (demt_itsa, NYUD, {"logits_deviation": 0.0}, "must be above 0, not 0.0"),
        (demt_itsa, NYUD, {"border": "wrap"}, "clamp, zeros, not 'wrap'"),
        (mqtransformer, NYUD, {"heads": 5}, "width 32 must be a multiple of 2 x heads = 10"),
        (mqtransformer, NYUD, {"attention": "pixel"}, "global or self, not 'pixel'"),
    ],
)
def test_settings_that_make_no_sense_are_named(system, tasks, settings, message):
    with pytest.raises(InputError, match=message):
        small(system, tasks, **settings)


def test_logits_are_read_between_the_centres_of_their_cells():
    class Plain(torch.nn.Module):
        def forward(self, features):
            return [features[:, :1]]

    class Coarse(torch.nn.Module):
        channels = (1,)

        def forward(self, image):
            return [torch.tensor([[[[0.0, 1.0]]]])]

    network = Network(Coarse(), Plain(), {"depth": torch.nn.Identity()})
    along = network(torch.zeros(1, 3, 1, 4))["depth"][0, 0, 0]
    torch.testing.assert_close(along, torch.tensor([0.0, 0.25, 0.75, 1.0]))


@pytest.mark.parametrize("system", [multi_task, single_task, demt, demt_itsa, mqtransformer])
def test_heads_start_with_logits_of_deviation_001_as_the_released_ones(system):
    torch.manual_seed(0)
    wide = {"width": 256} if system is mqtransformer else {}
    network = system.build({"semseg": 400}, Backbone(), **SMALL[system] | wide)
    weights = torch.cat([m.logits.weight.flatten() for m in network.modules() if heads(m)])
    assert weights.std().item() == pytest.approx(0.01, rel=0.1)


def heads(module):
    return isinstance(module, ConvHead)


@pytest.mark.parametrize("reach", ["pixel", "global"])
def test_a_query_of_demt_sees_its_own_pixel_only_or_all(reach):
    torch.manual_seed(0)
    block = demt.task_queries(2, 8, 2, reach).eval()
    maps = torch.randn(1, 2, 3, 3, 8)
    changed = maps.clone()
    changed[:, :, 2, 2] += 1
    moved = (block(maps, changed) - block(maps, maps)).abs().amax((0, 1, 4))
    assert moved[2, 2] > 1e-4
    assert (moved[0, 0] > 1e-6) == (reach == "global")
