"""The plain-PyTorch deformable attention against a loop over samples, and what it must not do."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mtlcli import ops
from mtlcli.errors import InputError
from mtlcli.ops import reference as implementation
from mtlcli.ops.reference import deformable_attention

MAPS = [(5, 7), (1, 1), (0, 3), (3, 1), (4, 4)]


def problem(maps=MAPS, batch=2, queries=5, heads=2, points=3, channels=3, spread=4.0, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    value = random(batch, sum(h * w for h, w in maps), heads, channels)
    reference = torch.rand(queries, 2, generator=generator, dtype=torch.float64)
    offsets = spread * random(batch, queries, heads, len(maps), points, 2)
    return value, maps, reference, offsets, random(batch, queries, heads, len(maps), points)


def pixel(grid, row, column, border):
    """One pixel of an (H, W, D) grid, which may lie outside."""
    height, width = grid.shape[:2]
    if border == "clamp" and height * width:
        return grid[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
    if 0 <= row < height and 0 <= column < width:
        return grid[row, column]
    return grid.new_zeros(grid.shape[2])


def sample(grid, x, y, border):
    left, top = math.floor(x), math.floor(y)
    return sum(
        (1 - abs(x - column)) * (1 - abs(y - row)) * pixel(grid, row, column, border)
        for row in (top, top + 1)
        for column in (left, left + 1)
    )


def sample_by_sample(value, maps, reference, offsets, logits, border):
    batch, _, heads, channels = value.shape
    queries, points = logits.shape[1], logits.shape[4]
    out = torch.zeros(batch, queries, heads, channels, dtype=torch.float64)
    grids = value.split([h * w for h, w in maps], 1)
    for b, n, m in torch.cartesian_prod(*map(torch.arange, (batch, queries, heads))).tolist():
        share = torch.softmax(logits[b, n, m].flatten(), 0).view(len(maps), points)
        for level, (height, width) in enumerate(maps):
            grid = grids[level][b, :, m].view(height, width, channels)
            for p in range(points):
                x = float(reference[n, 0] * width - 0.5 + offsets[b, n, m, level, p, 0])
                y = float(reference[n, 1] * height - 0.5 + offsets[b, n, m, level, p, 1])
                out[b, n, m] += share[level, p] * sample(grid, x, y, border)
    return out.flatten(2)


@pytest.mark.parametrize("border", ["clamp", "zeros"])
@pytest.mark.parametrize("spread", [0.3, 6.0])
def test_equals_a_loop_over_samples(border, spread):
    arguments = problem(spread=spread)
    expected = sample_by_sample(*arguments, border)
    torch.testing.assert_close(deformable_attention(*arguments, border), expected)


@pytest.mark.parametrize("border", ["clamp", "zeros"])
def test_whole_pixel_positions_on_and_off_the_edge(border):
    value, maps, _, _, logits = problem(maps=[(4, 4)], queries=16, points=4)
    steps = torch.arange(16, dtype=torch.float64)
    reference = torch.stack((steps % 4, steps // 4), -1) / 4 + 0.125  # centres: exact in binary
    offsets = torch.randint(-5, 6, (*logits.shape, 2), generator=torch.Generator().manual_seed(1))
    arguments = value, maps, reference, offsets.double(), logits
    expected = sample_by_sample(*arguments, border)
    torch.testing.assert_close(deformable_attention(*arguments, border), expected)


@pytest.mark.parametrize("border", ["clamp", "zeros"])
def test_gradients_equal_finite_differences(border):
    value, maps, reference, offsets, logits = problem(queries=3, points=2)

    def attend(value, offsets, logits):
        return deformable_attention(value, maps, reference, offsets, logits, border)

    leaves = [x.requires_grad_() for x in (value, offsets, logits)]
    assert torch.autograd.gradcheck(attend, leaves)


@pytest.mark.parametrize("border", ["clamp", "zeros"])
def test_gradient_at_a_whole_pixel_is_the_one_to_the_right(border):
    grid = torch.tensor([1.0, 4.0, 2.0, 7.0], dtype=torch.float64).view(1, 4, 1, 1)
    reference = torch.tensor([[0.125, 0.5]], dtype=torch.float64)
    for x, slope in ((0.0, 3.0), (1.0, -2.0), (3.0, 0.0 if border == "clamp" else -7.0)):
        offsets = torch.tensor([x, 0.0], dtype=torch.float64).view(1, 1, 1, 1, 1, 2)
        offsets.requires_grad_()
        out = deformable_attention(
            grid, [(1, 4)], reference, offsets, grid.new_zeros(1, 1, 1, 1, 1), border
        )
        out.sum().backward()
        assert float(offsets.grad[..., 0]) == slope


def test_chunks_change_neither_output_nor_gradient(monkeypatch):
    def run():
        leaves = value, offsets, logits = [x.requires_grad_() for x in (args[0], args[3], args[4])]
        out = deformable_attention(value, args[1], args[2], offsets, logits)
        return out, *torch.autograd.grad(out.square().sum(), leaves)

    args = problem(queries=7)
    whole = run()
    monkeypatch.setattr(implementation, "TAPS_AT_ONCE", 1)
    for one, other in zip(run(), whole):
        torch.testing.assert_close(one, other)


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [x.numel() for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
        self.elements = max(self.elements, *sizes, 0)
        return out


def test_no_tensor_of_samples_exists_in_either_direction(monkeypatch):
    monkeypatch.setattr(implementation, "TAPS_AT_ONCE", 2**12)
    value, maps, reference, offsets, logits = problem(
        maps=[(6, 6)], batch=1, queries=400, points=8, channels=16
    )
    leaves = [x.requires_grad_() for x in (value, offsets, logits)]
    saved = []
    with Largest() as largest:
        with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
            out = deformable_attention(leaves[0], maps, reference, *leaves[1:])
        out.sum().backward()
    samples = logits.numel() * 16
    assert largest.elements <= max(2 * 2**12, *(x.numel() for x in (value, offsets, logits, out)))
    assert largest.elements < samples / 4
    assert {x.data_ptr() for x in saved} <= {x.data_ptr() for x in (*leaves, reference)}


def test_second_derivative_is_refused():
    value, maps, reference, offsets, logits = problem()
    value.requires_grad_()
    out = deformable_attention(value, maps, reference, offsets, logits)
    (grad,) = torch.autograd.grad(out.square().sum(), value, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_values_keep_their_type_and_float32_positions(dtype):
    value, maps, reference, offsets, logits = problem()
    expected = deformable_attention(value, maps, reference, offsets, logits)
    half = deformable_attention(
        value.to(dtype), maps, reference.float(), offsets.float(), logits.float()
    )
    assert half.dtype == dtype
    assert (half.double() - expected).norm() < 1e-2 * expected.norm()


def test_infinity_is_far_away_and_nan_stays_in_its_query():
    value, maps, reference, offsets, logits = problem(maps=[(3, 4), (2, 2)])
    far = offsets.clone()
    far[:, 0] = 1e9
    endless = far.clone()
    endless[:, 0] = torch.inf
    for border in ("clamp", "zeros"):
        arguments = (value, maps, reference)
        torch.testing.assert_close(
            deformable_attention(*arguments, endless, logits, border),
            deformable_attention(*arguments, far, logits, border),
        )
    offsets[:, 1] = torch.nan
    for border in ("clamp", "zeros"):
        broken = deformable_attention(value, maps, reference, offsets, logits, border).isnan()
        assert broken[:, 1].all()
        assert not broken[:, [0, 2, 3, 4]].any()


def test_images_of_a_batch_do_not_see_each_other():
    value, maps, reference, offsets, logits = problem()
    together = deformable_attention(value, maps, reference, offsets, logits)
    alone = deformable_attention(value[1:], maps, reference, offsets[1:], logits[1:])
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=0)


def test_strided_inputs_give_the_same():
    value, maps, reference, offsets, logits = problem()
    both = torch.cat((offsets.flatten(2), logits.flatten(2)), -1)
    steps, scores = both.split((offsets[0, 0].numel(), logits[0, 0].numel()), -1)
    torch.testing.assert_close(
        deformable_attention(
            value.transpose(1, 2).contiguous().transpose(1, 2),
            maps,
            reference,
            steps.unflatten(-1, offsets.shape[2:]),
            scores.unflatten(-1, logits.shape[2:]),
        ),
        deformable_attention(value, maps, reference, offsets, logits),
    )


@pytest.mark.parametrize("empty", ["queries", "pixels"])
def test_nothing_to_ask_or_to_read_gives_zeros_with_gradients(empty):
    maps, queries = ([(0, 4)], 3) if empty == "pixels" else ([(2, 2)], 0)
    value, maps, reference, offsets, logits = problem(maps=maps, queries=queries)
    leaves = [x.requires_grad_() for x in (value, offsets, logits)]
    out = deformable_attention(leaves[0], maps, reference, *leaves[1:])
    assert out.shape == (2, queries, 6)
    assert not out.any()
    assert all(not grad.any() for grad in torch.autograd.grad(out.sum(), leaves))


def test_can_be_exported():
    class Attend(torch.nn.Module):
        def forward(self, value, reference, offsets, logits):
            return deformable_attention(value, MAPS, reference, offsets, logits)

    value, _, reference, offsets, logits = problem()
    arguments = value, reference, offsets, logits
    program = torch.export.export(Attend(), arguments)
    torch.testing.assert_close(program.module()(*arguments), Attend()(*arguments))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("maps", [(2, 2)], "hold 4 pixels, but value has 55 rows"),
        ("border", "wrap", "border must be one of clamp, zeros, not 'wrap'"),
        ("reference", torch.zeros(4, 2), r"reference must be \(5, 2\).* not \(4, 2\)"),
        ("offsets", torch.zeros(2, 5, 2, 5, 3), r"offsets must be \(2, 5, 2, 5, 3, 2\)"),
        ("logits", torch.zeros(2, 5, 3, 5, 3), r"logits must be \(2, 5, 2, 5, 3\)"),
        ("value", torch.zeros(2, 55, 6), r"value must be \(B, S, M, D\)"),
    ],
)
def test_shapes_that_disagree_are_named(name, change, message):
    names = ("value", "maps", "reference", "offsets", "logits", "border")
    arguments = {**dict(zip(names, (*problem(), "clamp"))), name: change}
    with pytest.raises(InputError, match=message):
        ops.deformable_attention(*arguments.values())


def test_the_operator_is_what_the_reference_computes():
    arguments = problem()
    torch.testing.assert_close(
        ops.deformable_attention(*arguments), deformable_attention(*arguments)
    )
