"""Deformable inter-task attention: its formula, its settings, its gradient scale, its cost."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from mtlcli.errors import InputError
from mtlcli.models import deformable_attention
from mtlcli.models.attention import Attention
from mtlcli.models.deformable_attention import DeformableAttention
from mtlcli.models.deformable_query import DeformableQueries, DeformableQuery
from mtlcli.models.demt import TaskInteraction
from mtlcli.models.inter_task_attention import InterTaskAttention, RefinementStep
from mtlcli.models.position import cell_centres, sine_code
from mtlcli.models.recompute import recompute
from mtlcli.models.task_pyramid import TaskPyramid

TASKS, HEIGHT, WIDTH, CHANNELS = 2, 5, 6, 8


def step(channels=CHANNELS, tasks=TASKS, levels=2, heads=2, points=3, **settings):
    downsampling = settings.pop("downsampling", "conv3x3")
    shared = settings.pop("shared", True)
    feedforward = settings.pop("feedforward", 16)
    pyramid = TaskPyramid(channels, tasks, levels, downsampling, shared)
    attention = DeformableAttention(channels, tasks * levels, heads, points, **settings)
    return RefinementStep(channels, pyramid, attention, feedforward)


def block(steps=1, position_channels=0, tied=False, grid="tasks", width=CHANNELS, **settings):
    full = width + position_channels
    return InterTaskAttention(
        width, position_channels, grid, steps, tied, lambda: step(full, **settings)
    )


def maps(batch=2, tasks=TASKS, channels=CHANNELS):
    torch.manual_seed(1)
    return torch.randn(batch, tasks, HEIGHT, WIDTH, channels, dtype=torch.float64)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def pixel(grid, row, column, border):
    height, width = grid.shape[:2]
    if border == "clamp":
        return grid[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
    inside = 0 <= row < height and 0 <= column < width
    return grid[row, column] if inside else torch.zeros_like(grid[0, 0])


def refine_query_by_query(layer, x, border):
    """One refinement step of one image (T, H, W, C), as the paper's equations (3) to (7)."""
    heads, _, points = layer.attention.layout
    levels = [x]
    for (halve,) in layer.pyramid.levels:
        levels.append(halve(levels[-1].permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    grids = [task for level in levels for task in layer.attention.value(level)]
    out = torch.empty_like(x)
    for task in range(len(x)):
        for h in range(HEIGHT):
            for w in range(WIDTH):
                query = x[task, h, w]
                found = read(layer.attention, query, h, w, grids, heads, points, border)
                z = F.layer_norm(query + layer.attention.output(found), query.shape)
                y = layer.feedforward.layers
                z = z + y[3](torch.relu(y[0](z)))
                out[task, h, w] = F.layer_norm(z, z.shape)
    return out


def read(attention, query, h, w, grids, heads, points, border):
    numbers = attention.sampling(query)
    samples = heads * len(grids) * points
    offsets = numbers[: 2 * samples].view(heads, len(grids), points, 2)
    share = numbers[2 * samples :].view(heads, -1).softmax(-1).view(heads, len(grids), points)
    found = []
    for m, part in enumerate(torch.arange(len(query)).chunk(heads)):
        total = torch.zeros(len(part), dtype=torch.float64)
        for i, grid in enumerate(grids):
            height, width = grid.shape[:2]
            for p in range(points):
                x = float((w + 0.5) / WIDTH * width - 0.5 + offsets[m, i, p, 0])
                y = float((h + 0.5) / HEIGHT * height - 0.5 + offsets[m, i, p, 1])
                for row in (math.floor(y), math.floor(y) + 1):
                    for column in (math.floor(x), math.floor(x) + 1):
                        weight = (1 - abs(x - column)) * (1 - abs(y - row)) * share[m, i, p]
                        total += weight * pixel(grid[..., part], row, column, border)
        found.append(total)
    return torch.cat(found)


@pytest.mark.parametrize("border", ["clamp", "zeros"])
@torch.no_grad()
def test_a_step_equals_a_loop_over_queries(border):
    torch.manual_seed(0)
    layer = step(border=border).double().eval()
    layer.attention.sampling.weight.normal_(std=0.5)  # offsets and weights set by hand
    layer.attention.sampling.bias.normal_(std=2)
    x = maps()
    for image, y in zip(x, layer(x)):
        torch.testing.assert_close(y, refine_query_by_query(layer, image, border))


@torch.no_grad()
def test_the_block_is_code_steps_and_small_mlp():
    torch.manual_seed(0)
    layer = block(steps=2, position_channels=4).double().eval()
    x = maps()
    code = sine_code(TASKS * HEIGHT, WIDTH, 4, x).view(TASKS, HEIGHT, WIDTH, 4)
    y = torch.cat((x, code.expand(2, -1, -1, -1, -1)), -1)
    for s in layer.steps:
        y = torch.stack([refine_query_by_query(s, image, "clamp") for image in y])
    torch.testing.assert_close(layer(x), layer.mlp(y[..., :CHANNELS]))


@torch.no_grad()
def test_without_offsets_and_logits_it_averages_the_maps_at_the_reference_point():
    torch.manual_seed(0)
    layer = DeformableAttention(CHANNELS, maps=2, heads=2, points=3).double()
    layer.sampling.bias.zero_()
    x = maps()
    reference = cell_centres(HEIGHT, WIDTH, x)
    y = layer(x[:, 0].flatten(1, 2), reference, x.flatten(1, 3), [(HEIGHT, WIDTH)] * 2)
    expected = layer.output(layer.value(x).mean(1).flatten(1, 2))
    torch.testing.assert_close(y, expected)


def test_at_the_start_heads_look_along_rays_with_equal_weights():
    layer = DeformableAttention(12, maps=3, heads=4, points=5)
    offsets, logits = layer.sample(torch.randn(1, 7, 12))
    assert not logits.any()
    directions = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    rays = directions[:, None] * torch.arange(1, 6)[:, None]  # head, point, xy
    torch.testing.assert_close(offsets, rays[None, None, :, None].expand_as(offsets))


@pytest.mark.parametrize("downsampling", ["conv3x3", "conv1x1_maxpool"])
@pytest.mark.parametrize(
    ("size", "smaller"),
    [((107, 140), [(54, 70), (27, 35)]), ((5, 1), [(3, 1), (2, 1)]), ((1, 1), [(1, 1), (1, 1)])],
)
def test_pyramid_halves_rounding_up(downsampling, size, smaller):
    with torch.device("meta"):
        rows, shapes = TaskPyramid(4, 3, 3, downsampling)(torch.empty(2, 3, *size, 4))
    assert shapes == [size] * 3 + [smaller[0]] * 3 + [smaller[1]] * 3
    assert rows.shape == (2, sum(h * w for h, w in shapes), 4)


@pytest.mark.parametrize("shared", [True, False])
@torch.no_grad()
def test_pyramid_rows_are_levels_of_tasks_in_raster_order(shared):
    torch.manual_seed(0)
    pyramid = TaskPyramid(CHANNELS, TASKS, 2, shared=shared).double()
    x = maps()
    rows, shapes = pyramid(x)
    pieces = rows.split([h * w for h, w in shapes], 1)
    for task in range(TASKS):
        torch.testing.assert_close(pieces[task], x[:, task].flatten(1, 2))
        halve = pyramid.levels[0][0 if shared else task]
        expected = halve(x[:, task].permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        torch.testing.assert_close(pieces[TASKS + task], expected)


def test_max_pooling_pyramid_is_a_pointwise_map_and_a_maximum():
    pyramid = TaskPyramid(CHANNELS, 1, 2, "conv1x1_maxpool").double()
    x = maps(tasks=1)
    rows, _ = pyramid(x)
    convolution = pyramid.levels[0][0][0]
    y = F.linear(x[:, 0], convolution.weight[:, :, 0, 0], convolution.bias)
    expected = torch.stack(
        [
            y[:, i : i + 2, j : j + 2].amax((1, 2))
            for i in range(0, HEIGHT, 2)
            for j in range(0, WIDTH, 2)
        ],
        1,
    )
    torch.testing.assert_close(rows[:, HEIGHT * WIDTH :], expected)


def test_position_code_is_sines_and_cosines_of_row_then_column():
    code = sine_code(3, 4, 8, torch.empty(0, dtype=torch.float64))
    for row in range(3):
        for column in range(4):
            expected = []
            for at in ((row + 0.5) / 3, (column + 0.5) / 4):
                for frequency in (1, 10000 ** (2 / 4)):
                    angle = 2 * math.pi * at / frequency
                    expected += [math.sin(angle), math.cos(angle)]
            assert code[row, column].tolist() == pytest.approx(expected, abs=1e-6)


def test_task_grid_tells_tasks_apart_and_repeated_grid_does_not():
    seen = {}
    for grid in ("tasks", "repeated"):
        layer = block(position_channels=4, grid=grid)
        layer.steps[0].register_forward_pre_hook(
            lambda _, args, grid=grid: seen.update({grid: args[0]})
        )
        layer(torch.zeros(1, TASKS, HEIGHT, WIDTH, CHANNELS))
    codes = {grid: x[0, ..., CHANNELS:] for grid, x in seen.items()}
    assert torch.equal(codes["repeated"][0], codes["repeated"][1])
    assert not torch.allclose(codes["tasks"][0], codes["tasks"][1])


def gradients(scale, scope):
    torch.manual_seed(0)
    layer = DeformableAttention(
        CHANNELS, TASKS, heads=2, points=3, gradient_scale=scale, gradient_scope=scope
    ).double()
    with torch.no_grad():
        layer.sampling.weight.normal_(std=0.3)
    x = maps(batch=1).requires_grad_()
    y = layer(
        x.flatten(1, 3),
        cell_centres(HEIGHT, WIDTH, x).repeat(TASKS, 1),
        x.flatten(1, 3),
        [(HEIGHT, WIDTH)] * TASKS,
    )
    y.square().sum().backward()
    offsets = 2 * math.prod(layer.layout)
    found = {name: p.grad for name, p in layer.named_parameters() if "sampling" not in name}
    for name, p in layer.sampling.named_parameters():
        found |= {f"offsets.{name}": p.grad[:offsets], f"weights.{name}": p.grad[offsets:]}
    return y, x.grad, found


@pytest.mark.parametrize(
    ("scope", "scaled"),
    [
        ("offsets", ("offsets",)),
        ("offsets_and_weights", ("offsets", "weights")),
        ("module", ("offsets", "weights", "value", "output")),
    ],
)
def test_lambda_scales_exactly_the_gradients_it_names(scope, scaled):
    plain_y, plain_x, plain = gradients(1.0, scope)
    y, x, found = gradients(100.0, scope)
    torch.testing.assert_close(y, plain_y, rtol=0, atol=0)
    torch.testing.assert_close(x, plain_x)  # what flows on is not scaled
    assert plain.keys() == found.keys()
    for name, gradient in plain.items():
        assert gradient.abs().max() > 0
        factor = 100 if name.split(".")[0] in scaled else 1
        torch.testing.assert_close(found[name], factor * gradient, msg=name)


def test_offsets_are_not_rounded_under_autocast():
    layer = DeformableAttention(CHANNELS, 1, heads=2, points=3)
    queries = torch.randn(1, 4, CHANNELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        offsets, logits = layer.sample(queries)
    assert offsets.dtype == logits.dtype == torch.float32
    torch.testing.assert_close(offsets, layer.sample(queries)[0], rtol=0, atol=0)


def queries():
    pyramid = TaskPyramid(CHANNELS, TASKS, 2, "conv3x3", True)
    attentions = [DeformableAttention(CHANNELS, 2 * TASKS, 2, 8) for _ in range(TASKS)]
    return DeformableQueries(pyramid, [DeformableQuery(CHANNELS, a) for a in attentions])


@pytest.mark.parametrize("kind", ["step", "queries"])
def test_what_is_recomputed_keeps_neither_offsets_nor_logits(kind):
    kept, found = {}, {}
    x = maps().float()
    for again in (False, True):
        sizes = []
        torch.manual_seed(2)
        layers = torch.nn.ModuleList([step().float().eval() if kind == "step" else queries()])
        if again:
            recompute(layers)
        given = [x.clone().requires_grad_() for _ in range(1 if kind == "step" else 2)]
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: (sizes.append(t.numel()), t)[1], lambda t: t
        ):
            out = layers[0](*given)
        kept[again] = max(sizes)
        found[again] = torch.autograd.grad(out.square().sum(), [*given, *layers.parameters()])
    (attention, *_) = (m for m in layers.modules() if isinstance(m, DeformableAttention))
    rows = x[..., 0].numel() // (1 if kind == "step" else TASKS)
    logits = rows * attention.sampling.out_features // 3
    assert kept[False] >= logits > 1.3 * x.numel() >= kept[True]
    for a, b in zip(found[True], found[False]):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("scope", ["offsets", "offsets_and_weights"])
def test_two_maps_of_offsets_and_logits_are_one(scope, monkeypatch):
    found = []
    for places in ((), ("cpu",)):  # together, apart
        monkeypatch.setattr(deformable_attention, "APART", places)
        torch.manual_seed(0)
        layer = DeformableAttention(CHANNELS, 1, 2, 3, gradient_scale=10.0, gradient_scope=scope)
        torch.nn.init.normal_(layer.sampling.weight)
        x = maps()[:, 0].flatten(1, 2).float().requires_grad_()
        offsets, logits = layer.sample(x)
        assert offsets.is_contiguous() is bool(places)  # each has memory of its own
        assert logits.is_contiguous() is bool(places)
        total = (offsets.square().sum() + logits.sin().sum()) / 100
        grads = torch.autograd.grad(total, [x, *layer.sampling.parameters()])
        found.append((offsets, logits, *grads))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b)


def test_tied_steps_run_as_often_and_weigh_as_one():
    calls = []
    for tied in (False, True):
        layer = block(steps=3, tied=tied).double()
        for s in layer.steps:
            s.register_forward_hook(lambda *_, tied=tied: calls.append(tied))
        layer(maps())
        assert len(layer.steps) == (1 if tied else 3)
    assert calls == [False] * 3 + [True] * 3


def itsa(tasks, steps=3, shared=True, **settings):
    with torch.device("meta"):
        return block(
            steps,
            position_channels=24,
            width=256,
            tasks=tasks,
            levels=3,
            heads=4,
            points=16,
            feedforward=1024,
            shared=shared,
            **settings,
        )


@pytest.mark.parametrize(
    ("tasks", "steps", "shared", "count"),
    [
        (4, 1, True, 2_858_712),
        (4, 3, True, 8_443_528),
        (4, 3, False, 21_149_368),
        (5, 1, True, 3_020_568),
        (5, 3, True, 8_929_096),
        (5, 3, False, 25_870_216),
    ],
)
def test_sizes_of_the_reconstruction(tasks, steps, shared, count):
    assert parameters(itsa(tasks, steps, shared)) == count


def test_sizes_of_a_steps_parts():
    s = itsa(4).steps[0]
    found = {
        name: parameters(part)
        for name, part in {**dict(s.attention.named_children()), **dict(s.named_children())}.items()
    }
    assert found["value"] == found["output"] == 78_680
    assert found["sampling"] == 431_616 + 215_808
    assert found["pyramid"] == 1_411_760
    assert found["norm"] == parameters(s.feedforward.norm) == 560


def count_flops(module, x):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops() / 1e12


def test_table_6_counted_by_torch():
    """The paper's 3.75T against 0.24T, less softmax and sampling, which torch does not count."""
    with torch.device("meta"):
        x = torch.empty(1, 4, 107, 140, 256)
        ours = itsa(4, steps=1).eval()
        theirs = TaskInteraction(256, Attention(256, 4, "global")).attention.eval()
        assert count_flops(ours, x) == pytest.approx(0.2023, abs=5e-5)
        tokens = x.flatten(2, 3)
        with FlopCounterMode(display=False) as counter:
            theirs(tokens, tokens)
    assert counter.get_total_flops() / 1e12 == pytest.approx(3.708, abs=5e-4)


def test_deformable_queries_read_one_pyramid_of_all_tasks():
    torch.manual_seed(0)
    layer = DeformableQueries(
        TaskPyramid(CHANNELS, TASKS, 2),
        [DeformableQuery(CHANNELS, DeformableAttention(CHANNELS, 2 * TASKS, 2)) for _ in range(2)],
    ).double()
    x, refined = maps(), 2 * maps().flip(1)
    rows, shapes = layer.pyramid(refined)
    reference = cell_centres(HEIGHT, WIDTH, x)
    for task, y in enumerate(layer(x, refined).unbind(1)):
        query = layer.blocks[task]
        found = query.attention(x[:, task].flatten(1, 2), reference, rows, shapes)
        torch.testing.assert_close(y, x[:, task] + query.mlp(found).view(y.shape))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: block(grid="none"), "tasks, repeated, not 'none'"),
        (lambda: block(steps=0), "at least 1 step, not 0"),
        (lambda: block(position_channels=6), "0, 4, 8, ..., not 6"),
        (lambda: step(levels=0), "at least 1 level, not 0"),
        (lambda: step(downsampling="mean"), "conv3x3, conv1x1_maxpool, not 'mean'"),
        (lambda: step(heads=3), "3 heads do not divide a width of 8"),
        (lambda: step(gradient_scope="all"), "offsets_and_weights, module, not 'all'"),
    ],
)
def test_settings_that_make_no_sense_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
