"""The Triton kernels against plain PyTorch in float64, on CPU tensors, by Triton's interpreter.

`test_ops_triton.py` runs this file in a process of its own, with TRITON_INTERPRET=1. The
interpreter's bfloat16 arithmetic is wrong, so half types stand for it; races and the order of
atomic additions are not those of a GPU.
"""

import math

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from mtlcli.errors import InputError
from mtlcli.ops import choice, standby, triton_gpu
from mtlcli.ops.reference import deformable_attention
from mtlcli.ops.triton_gpu import deformable_attention_triton
from tests.attention_cases import BORDERS, DEGENERATE, Case, assert_close


@pytest.fixture(autouse=True)
def _no_stand_in():
    """What the kernels get wrong must not be answered by plain PyTorch."""
    with standby.strict():
        yield


def check(case, border="clamp", tolerance=1e-5, dtype=None):
    found = case.run(deformable_attention_triton, border, dtype)
    assert_close(found, case.exact(border), tolerance)


@pytest.mark.parametrize("border", BORDERS)
def test_equals_the_reference_on_degenerate_maps(border):
    check(Case(DEGENERATE, batch=2), border)


@pytest.mark.parametrize("border", BORDERS)
def test_equals_the_reference_on_a_raster_of_queries_cut_into_tiles(border):
    check(Case([(9, 11)], queries=99, heads=1, channels=70), border)


def test_equals_the_reference_where_queries_repeat_the_raster_and_points_are_many():
    check(Case([(3, 4), (2, 2)], queries=24, heads=1, points=20, channels=16))


@pytest.mark.parametrize("channels", [1, 8, 33, 130])
def test_any_head_width(channels):
    check(Case([(3, 3)], queries=5, heads=2, points=2, channels=channels))


def test_half_values_offsets_and_logits():
    case = Case([(5, 7)], queries=10)
    for name in ("value", "offsets", "logits", "grad"):
        setattr(case, name, getattr(case, name).half().float())
    check(case, tolerance=1e-2, dtype=torch.half)


@pytest.mark.parametrize("border", BORDERS)
def test_takes_the_gradient_to_the_right_at_whole_pixels(border):
    case = Case([(4, 8)], queries=32, heads=1)
    x, y = torch.meshgrid(torch.arange(8), torch.arange(4), indexing="xy")
    case.reference = (torch.stack((x, y), -1).view(-1, 2) + 0.5) / torch.tensor([8.0, 4.0])
    case.offsets = case.offsets.round()
    check(case, border)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # numpy, of NaN
@pytest.mark.parametrize("border", BORDERS)
def test_an_infinite_offset_reads_the_edge_or_nothing_and_nan_stays_in_its_query(border):
    case = Case([(5, 7)], queries=12)
    far = Case([(5, 7)], queries=12)
    case.offsets[:, ::3, :, :, 0], far.offsets[:, ::3, :, :, 0] = math.inf, 1e6
    case.offsets[:, 1::3, :, :, 1], far.offsets[:, 1::3, :, :, 1] = -math.inf, -1e6
    found = case.run(deformable_attention_triton, border)
    assert_close(found, far.run(deformable_attention_triton, border), 1e-6)
    case.offsets[0, 5, 0, 0, 0, 0] = math.nan
    broken = case.run(deformable_attention_triton, border)[0].isnan()
    assert broken[0, 5, :5].all()
    assert broken.sum() == 5


def test_writes_all_results_and_sums_in_order_in_deterministic_mode():
    case = Case(DEGENERATE, batch=2)
    torch.use_deterministic_algorithms(True)  # fills fresh memory with NaN
    try:
        for border in BORDERS:
            check(case, border)
        first, second = (case.run(deformable_attention_triton) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_reads_slices_of_a_wider_projection():
    case = Case([(3, 4)])
    joint = torch.cat((case.offsets.flatten(2), case.logits.flatten(2)), -1)
    offsets, logits = joint.split([case.offsets[0, 0].numel(), case.logits[0, 0].numel()], -1)
    arguments = (offsets.view(case.offsets.shape), logits.view(case.logits.shape))
    value = case.value.transpose(1, 2).contiguous().transpose(1, 2)
    found = deformable_attention_triton(value, case.shapes, case.reference, *arguments)
    wanted = case.run(deformable_attention_triton)[0]
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("empty", [{"queries": 0}, {"points": 0}, {"batch": 0}, {"channels": 0}])
def test_takes_empty_tensors(empty):
    case = Case([(3, 4)], **empty)
    out, *grads = case.run(deformable_attention_triton)
    assert out.shape == case.grad.shape
    assert not any(tensor.count_nonzero() for tensor in (out, *grads))


def test_compiles_without_a_graph_break_and_recomputes_under_checkpointing():
    case = Case([(3, 4)], queries=8)
    wanted = case.run(deformable_attention_triton)
    fused = torch.compile(deformable_attention_triton, backend="aot_eager", fullgraph=True)
    assert_close(case.run(fused), wanted, 1e-6)

    def recomputed(*args):
        return checkpoint(deformable_attention_triton, *args, use_reentrant=False)

    assert_close(case.run(recomputed), wanted, 1e-6)


def test_follows_the_rules_of_custom_operators():
    case = Case([(2, 2)], queries=4, heads=1)
    value, offsets, logits = (t.requires_grad_() for t in case.differentiable())
    arguments = (value, [2, 2], case.reference, offsets, logits, True)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(triton_gpu._attend, arguments, test_utils=checks)


def test_keeps_positions_exact_under_autocast():
    case = Case([(300, 400)], queries=12, channels=2)
    ramp = torch.linspace(0, 400, 400, dtype=torch.half).repeat(300)
    value = ramp[None, :, None, None].repeat(1, 1, 2, 2)
    arguments = (case.shapes, case.reference, case.offsets, case.logits)
    wanted = deformable_attention(value.double(), *arguments)
    with torch.autocast("cpu", torch.bfloat16):
        out = deformable_attention_triton(value, *arguments)
    assert_close([out], [wanted], 1e-3)


def test_refuses_a_second_derivative():
    case = Case([(3, 4)], queries=4)
    value, offsets, logits = (t.requires_grad_() for t in case.differentiable())
    out = deformable_attention_triton(value, case.shapes, case.reference, offsets, logits)
    (grad,) = torch.autograd.grad(out.square().sum(), offsets, create_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": torch.zeros(1, 12, 2, 5).double()}, "float64"),
        ({"offsets": torch.zeros(1, device="meta")}, "offsets is on meta"),
        ({"shapes": [(2**14, 2**14)]}, r"2\*\*31"),
    ],
    ids=["float64", "device", "overflow"],
)
def test_refuses_what_the_kernels_could_not_read(change, message):
    case = Case([(3, 4)])
    names = ("value", "shapes", "reference", "offsets", "logits")
    arguments = {name: getattr(case, name) for name in names} | change
    with pytest.raises(InputError, match=message):
        deformable_attention_triton(**arguments)


def test_the_cpu_is_refused_without_the_interpreter(monkeypatch):
    monkeypatch.setenv(triton_gpu.INTERPRETER, "0")
    with pytest.raises(InputError, match="on the CPU"):
        Case([(3, 4)]).run(deformable_attention_triton)


@pytest.mark.parametrize("kernel", ["log_sum_exp", "forward", "differentiate", "scatter"])
def test_plain_pytorch_answers_where_a_kernel_fails(kernel, monkeypatch, caplog):
    def refuse(*args):
        raise RuntimeError("PassManager::run failed")

    monkeypatch.setattr(standby, "_strict", [])
    monkeypatch.setattr(standby, "_retired", set())
    check(Case([(3, 4)]))
    monkeypatch.setattr(triton_gpu, kernel, refuse)
    for border in BORDERS:
        check(Case(DEGENERATE, batch=2), border)
    monkeypatch.undo()
    assert len(caplog.records) == 1


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # numpy, of -inf less -inf
def test_a_softmax_without_any_weight_is_nan_as_in_the_reference():
    case = Case([(3, 4)], points=70)  # more samples than one chunk
    case.logits[0, 2, 1] = -math.inf
    case.logits[0, 3, 0, :, ::2] = -math.inf
    case.logits[0, 4, 0, :, 65:] = 80.0
    found = case.run(deformable_attention_triton)[0]
    wanted = case.run(deformable_attention)[0]
    torch.testing.assert_close(found, wanted, equal_nan=True, rtol=1e-5, atol=1e-5)
    assert found[0, 2, 5:].isnan().all()
    assert found.isnan().sum() == 5


def test_the_variable_forces_it(monkeypatch):
    monkeypatch.setenv(choice.VARIABLE, "triton")
    assert choice.choose(torch.zeros(1)) is deformable_attention_triton
