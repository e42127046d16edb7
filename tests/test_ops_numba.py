"""The numba operator against a loop over samples in float64, and inside torch's machinery."""

import math
import subprocess
import sys
import textwrap
import threading

import numba
import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from mtlcli.errors import InputError
from mtlcli.ops import numba_cpu, standby
from mtlcli.ops.numba_cpu import deformable_attention_numba
from mtlcli.ops.numba_launch import compiled, edition, log
from mtlcli.ops.reference import deformable_attention

PYRAMIDS = ([(5, 7), (3, 4), (1, 1)] * 2, [(9, 6)], [(4, 3), (0, 5), (1, 6), (7, 1)])
BORDERS = ("clamp", "zeros")


@pytest.fixture(autouse=True)
def _no_stand_in():
    """What the kernels get wrong must not be answered by plain PyTorch."""
    with standby.strict():
        yield


class Case:
    """Random inputs; a third of the samples falls outside of the maps."""

    def __init__(self, shapes, *, queries=37, batch=2, heads=2, points=3, channels=5, seed=0):
        generator = torch.Generator().manual_seed(seed)
        samples = (batch, queries, heads, len(shapes), points)
        pixels = sum(height * width for height, width in shapes)
        self.shapes = shapes
        self.value = torch.randn(batch, pixels, heads, channels, generator=generator)
        self.reference = torch.rand(queries, 2, generator=generator)
        self.offsets = 2 * torch.randn(*samples, 2, generator=generator)
        self.logits = 2 * torch.randn(samples, generator=generator)
        self.grad = torch.randn(batch, queries, heads * channels, generator=generator)

    def run(self, operator, border="clamp", dtype=None):
        """The output and the gradients of value, offsets and logits."""
        leaves = [t.to(dtype or t.dtype).requires_grad_() for t in self.differentiable()]
        value, offsets, logits = leaves
        reference = self.reference.to(offsets.dtype if dtype == torch.float64 else torch.float32)
        out = operator(value, self.shapes, reference, offsets, logits, border)
        return out.detach(), *torch.autograd.grad(out, leaves, self.grad.to(out.dtype))

    def differentiable(self):
        return [t.detach().clone() for t in (self.value, self.offsets, self.logits)]


def sample_by_sample(case, border):
    """The definition, one sample after the other in float64: output and gradients."""
    value, offsets, logits = (t.double().numpy() for t in case.differentiable())
    batch, queries, heads, _, points = logits.shape
    out = np.zeros((batch, queries, heads, value.shape[-1]))
    grads = [np.zeros_like(array) for array in (value, offsets, logits)]
    grad_out = case.grad.double().numpy().reshape(out.shape)
    firsts = np.cumsum([0, *(height * width for height, width in case.shapes)])
    for b, n, m in np.ndindex(batch, queries, heads):
        share = np.exp(logits[b, n, m] - logits[b, n, m].max())
        share /= share.sum()
        read = np.zeros((*share.shape, value.shape[-1]))
        for level, p in np.ndindex(len(case.shapes), points):
            size = np.array(case.shapes[level][::-1])
            position = case.reference[n].double().numpy() * size - 0.5 + offsets[b, n, m, level, p]
            free = np.ones(2)
            if border == "clamp":
                free = (position >= 0) & (position < size - 1)
                position = np.clip(position, 0, size - 1)
            corner = np.floor(position)
            for dx, dy in np.ndindex(2, 2):
                x, y = (corner + np.array((dx, dy))).astype(int)
                fx, fy = 1 - np.abs(position - (x, y))
                if border == "clamp" and size.min() > 0:
                    x, y = min(x, size[0] - 1), min(y, size[1] - 1)
                if not (0 <= x < size[0] and 0 <= y < size[1]):
                    continue
                row = (b, firsts[level] + y * size[0] + x, m)
                read[level, p] += fx * fy * value[row]
                grads[0][row] += share[level, p] * fx * fy * grad_out[b, n, m]
                slope = np.array(((2 * dx - 1) * fy, (2 * dy - 1) * fx)) * free
                dot = value[row] @ grad_out[b, n, m]
                grads[1][b, n, m, level, p] += share[level, p] * slope * dot
        out[b, n, m] = np.tensordot(share, read, 2)
        dots = read @ grad_out[b, n, m]
        grads[2][b, n, m] = share * (dots - (share * dots).sum())
    return [torch.from_numpy(a) for a in (out.reshape(batch, queries, -1), *grads)]


def assert_close(found, wanted, tolerance):
    for name, a, b in zip(("out", "value", "offsets", "logits"), found, wanted):
        error = (a.double() - b.double()).norm() / (b.double().norm() + 1e-30)
        assert error <= tolerance, f"{name}: {error:.1e}"


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shapes", PYRAMIDS, ids=["six maps", "one map", "degenerate maps"])
def test_equals_the_definition(shapes, border):
    case = Case(shapes)
    wanted = sample_by_sample(case, border)
    assert_close(case.run(deformable_attention_numba, border), wanted, 1e-5)


@pytest.mark.parametrize("border", BORDERS)
def test_equals_the_definition_for_bfloat16(border):
    case = Case(PYRAMIDS[0])
    for name in ("value", "offsets", "logits", "grad"):
        setattr(case, name, getattr(case, name).bfloat16().float())
    found = case.run(deformable_attention_numba, border, torch.bfloat16)
    assert all(tensor.dtype == torch.bfloat16 for tensor in found)
    assert_close(found, sample_by_sample(case, border), 1e-2)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_reference_on_random_shapes(seed, border):
    rng = np.random.default_rng(seed)
    shapes = [tuple(rng.integers(1, 20, 2).tolist()) for _ in range(rng.integers(1, 6))]
    sizes = {"queries": 300, "batch": 1, "heads": 3, "points": int(rng.integers(1, 20))}
    channels = 70 if seed % 2 else int(rng.integers(1, 17))
    case = Case(shapes, channels=channels, seed=seed, **sizes)
    wanted = case.run(deformable_attention, border, torch.float64)
    found = case.run(deformable_attention_numba, border)
    kinks = near_kinks(case)
    found[2][kinks] = wanted[2][kinks] = 0
    assert_close(found, wanted, 1e-5)


def near_kinks(case):
    """Samples so close to whole pixels that float32 may see them on the other side."""
    sizes = torch.tensor(case.shapes, dtype=torch.float64).flip(-1)[:, None]
    position = case.reference.double()[:, None, None, None] * sizes - 0.5 + case.offsets.double()
    return (position - position.round()).abs().amin(-1) < 1e-4


@pytest.mark.parametrize("border", BORDERS)
def test_takes_the_gradient_to_the_right_at_whole_pixels(border):
    case = Case([(4, 8), (2, 2)], queries=32)
    x, y = torch.meshgrid(torch.arange(8), torch.arange(4), indexing="xy")
    case.reference = (torch.stack((x, y), -1).view(-1, 2) + 0.5) / torch.tensor([8.0, 4.0])
    case.offsets = case.offsets.round()
    case.offsets[:, :, :, 1] += 0.25  # the centres of the smaller map are odd eighths
    wanted = sample_by_sample(case, border)
    assert_close(case.run(deformable_attention_numba, border), wanted, 1e-5)


def test_writes_all_of_its_results():
    case = Case(PYRAMIDS[2])
    wanted = case.run(deformable_attention_numba)
    torch.use_deterministic_algorithms(True)  # fills fresh memory with NaN
    try:
        found = case.run(deformable_attention_numba)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted))


@pytest.mark.parametrize("empty", [{"queries": 0}, {"points": 0}, {"batch": 0}, {"channels": 0}])
def test_takes_empty_tensors(empty):
    case = Case([(3, 4)], **empty)
    out, *grads = case.run(deformable_attention_numba)
    assert out.shape == case.grad.shape
    assert not any(tensor.count_nonzero() for tensor in (out, *grads))


def test_does_not_depend_on_the_number_of_threads():
    case = Case(PYRAMIDS[0], queries=500)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(case.run(deformable_attention_numba))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_can_be_called_from_several_threads_at_once():
    cases = [Case(PYRAMIDS[0], queries=500, seed=seed) for seed in range(4)]
    wanted = [case.run(deformable_attention_numba) for case in cases]
    found = [None] * len(cases)

    def work(i):
        found[i] = cases[i].run(deformable_attention_numba)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(found, wanted):
        assert all(torch.equal(x, y) for x, y in zip(a, b))


@pytest.mark.parametrize("border", BORDERS)
def test_an_infinite_offset_reads_the_edge_or_nothing(border):
    case = Case([(5, 7)], queries=20)
    far = Case([(5, 7)], queries=20)
    case.offsets[:, ::3, :, :, 0] = math.inf
    far.offsets[:, ::3, :, :, 0] = 1e6
    case.offsets[:, 1::3, :, :, 1] = -math.inf
    far.offsets[:, 1::3, :, :, 1] = -1e6
    found = case.run(deformable_attention_numba, border)
    assert_close(found, far.run(deformable_attention_numba, border), 1e-6)


@pytest.mark.parametrize("name", ["offsets", "logits"])
def test_nan_stays_with_its_query(name):
    case, clean = Case(PYRAMIDS[0]), Case(PYRAMIDS[0])
    getattr(case, name)[1, 5, 0, 0, 0] = math.nan
    out, *_ = case.run(deformable_attention_numba)
    wanted, *_ = clean.run(deformable_attention_numba)
    channels = case.value.shape[-1]
    assert out[1, 5, :channels].isnan().all()
    wanted[1, 5, :channels] = out[1, 5, :channels]
    assert torch.equal(out.nan_to_num(), wanted.nan_to_num())


def test_reads_slices_of_a_wider_projection():
    case = Case(PYRAMIDS[0])
    joint = torch.cat((case.offsets.flatten(2), case.logits.flatten(2)), -1)
    offsets, logits = joint.split([case.offsets[0, 0].numel(), case.logits[0, 0].numel()], -1)
    wanted = case.run(deformable_attention_numba)[0]
    arguments = (offsets.view(case.offsets.shape), logits.view(case.logits.shape))
    value = case.value.transpose(1, 2).contiguous().transpose(1, 2)
    found = deformable_attention_numba(value, case.shapes, case.reference, *arguments)
    assert torch.equal(found, wanted)


def test_compiles_without_a_graph_break():
    case = Case(PYRAMIDS[0])
    fused = torch.compile(deformable_attention_numba, backend="aot_eager", fullgraph=True)
    found, wanted = case.run(fused), case.run(deformable_attention_numba)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted))


def test_follows_the_rules_of_custom_operators():
    case = Case([(3, 4)], queries=8)
    value, offsets, logits = (t.requires_grad_() for t in case.differentiable())
    arguments = (value, [3, 4], case.reference, offsets, logits, True)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(numba_cpu._attend, arguments, test_utils=checks)


def test_keeps_positions_exact_under_autocast():
    case = Case([(300, 400)], queries=200, batch=1)
    case.value = torch.linspace(0, 400, 400).repeat(300)[None, :, None, None].repeat(1, 1, 2, 5)
    wanted = case.run(deformable_attention, dtype=torch.float64)[0]
    with torch.autocast("cpu", torch.bfloat16):
        value = torch.einsum("bsmd,de->bsme", case.value, torch.eye(5))
        out = deformable_attention_numba(
            value, case.shapes, case.reference, case.offsets, case.logits
        )
    assert value.dtype == out.dtype == torch.bfloat16
    assert_close([out], [wanted], 1e-2)


def test_is_the_same_under_activation_checkpointing():
    case = Case(PYRAMIDS[0])

    def recomputed(*args):
        return checkpoint(deformable_attention_numba, *args, use_reentrant=False)

    found, wanted = case.run(recomputed), case.run(deformable_attention_numba)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted))


def test_refuses_a_second_derivative():
    case = Case([(3, 4)])
    value, offsets, logits = (t.requires_grad_() for t in case.differentiable())
    out = deformable_attention_numba(value, case.shapes, case.reference, offsets, logits)
    (grad,) = torch.autograd.grad(out.square().sum(), offsets, create_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": torch.zeros(2, 11, 2, 5)}, "12 value rows"),
        ({"reference": torch.zeros(9, 2)}, "reference"),
        ({"value": torch.zeros(2, 12, 2, 5).double()}, "float64"),
        ({"logits": torch.zeros(2, 37, 2, 1, 4)}, "logits"),
        ({"shapes": [(-3, -4)]}, "negative"),
        ({"value": torch.zeros(2, 12, 2, 5, device="meta")}, "meta"),
    ],
    ids=["rows", "reference", "float64", "points", "negative", "device"],
)
def test_refuses_what_the_kernels_could_not_read(change, message):
    case = Case([(3, 4)])
    names = ("value", "shapes", "reference", "offsets", "logits")
    arguments = {name: getattr(case, name) for name in names} | change
    with pytest.raises(InputError, match=message):
        deformable_attention_numba(**arguments)


def test_refuses_more_points_than_a_block_holds():
    case = Case([(3, 4)], queries=1, points=1025)
    with pytest.raises(InputError, match="1025 points"):
        case.run(deformable_attention_numba)


def test_takes_as_many_points_as_a_block_holds():
    case = Case([(3, 4)], queries=3, points=1024, batch=1, heads=1)
    wanted = case.run(deformable_attention, dtype=torch.float64)
    assert_close(case.run(deformable_attention_numba)[:2], wanted[:2], 1e-5)


def test_kernels_do_without_a_folder_for_compiled_code():
    scope: dict = {}
    exec("def double(x):\n    return 2 * x", scope)  # no file, so numba knows no place to keep it
    assert compiled(scope["double"])(4) == 8


def test_kept_kernels_are_not_used_after_a_change_of_what_they_import(monkeypatch):
    before = edition()
    edition.cache_clear()
    with monkeypatch.context() as change:
        change.setattr("inspect.getsource", lambda module: "changed")
        after = edition()
    edition.cache_clear()
    assert numba.typeof(before) != numba.typeof(after)
    assert numba.typeof(before) == numba.typeof(edition())


def test_importing_compiles_nothing_and_forked_workers_run(tmp_path):
    script = tmp_path / "forked.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, torch
            from mtlcli.ops.numba_cpu import deformable_attention_numba as attend
            from mtlcli.ops.numba_launch import compiled

            assert compiled.cache_info().currsize == 0
            torch.set_num_threads(2)
            value, points = torch.ones(1, 12, 2, 5), torch.zeros(1, 400, 2, 1, 3, 2)
            arguments = (value, [(3, 4)], torch.rand(400, 2), points, points[..., 0])
            wanted = attend(*arguments)
            child = os.fork()
            if child == 0:
                os._exit(0 if torch.equal(attend(*arguments), wanted) else 1)
            assert os.waitpid(child, 0)[1] == 0
            """
        )
    )
    subprocess.run([sys.executable, "-W", "ignore", script], check=True, timeout=120)


def test_reports_a_compilation_once(caplog):
    scope: dict = {}
    exec("def fill(first, last, x):\n    x[first:last] = 1", scope)
    numbers = np.zeros(5)
    with caplog.at_level("INFO", logger=log.name):
        for _ in range(2):
            numba_cpu.run_units(scope["fill"], 5, numbers)
    assert [record.getMessage()[:32] for record in caplog.records] == [
        "compiled the CPU kernel 'fill' i"
    ]
    assert numbers.all()
