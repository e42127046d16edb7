"""The CUDA operator without a GPU: the same sources, run by a CPU emulator, against float64."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from mtlcli.errors import InputError
from mtlcli.ops import choice, cuda_launch, deformable_attention, fused, standby
from mtlcli.ops.reference import deformable_attention as plain
from tests.attention_cases import BORDERS, DEGENERATE, Case, assert_close
from tests.emulator import emulate
from tests.emulator.emulate import Refused, emulated, needs_compiler

pytest.importorskip("cuda.bindings", reason="the bindings of CUDA are not installed")

from mtlcli.ops import cuda_driver, cuda_gpu
from mtlcli.ops.cuda_gpu import deformable_attention_cuda

pytestmark = needs_compiler
FP32, BF16, FP16 = torch.float32, torch.bfloat16, torch.float16
LIMITS = (3e-3, 1e-4)  # output and gradient of the value, with bfloat16 values
TOLERANCES = {FP32: 2e-6, FP16: 2e-3, BF16: 1e-2}  # of norms; halves are those of the output


@pytest.fixture(autouse=True)
def _emulated(monkeypatch: pytest.MonkeyPatch):
    """What the kernels get wrong must not be answered by others."""
    emulated(monkeypatch)
    monkeypatch.setattr(standby, "_strict", [None])


def check(case: Case, border: str = "clamp", operator=deformable_attention_cuda) -> None:
    found = case.run(operator, border)
    assert_close(found, case.exact(border), TOLERANCES[case.value.dtype])


@pytest.mark.parametrize("border", BORDERS)
def test_equals_the_reference_on_degenerate_maps(border: str) -> None:
    check(Case(DEGENERATE, batch=2), border)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("kind", [BF16, FP16], ids=["bf16", "fp16"])
def test_half_values_on_degenerate_maps(kind: torch.dtype, border: str) -> None:
    check(Case(DEGENERATE, batch=2).stored(kind, FP32, FP32), border)


def test_errors_stay_within_their_limits_and_rounded_logits_would_not() -> None:
    shapes = [(9, 11), (40, 60)]  # windows of all sizes: entries carry their places
    case = Case(shapes, queries=99, points=16, spread=15.0).stored(BF16, FP32, FP32)
    rounded = {FP16: 1, BF16: 0}  # what each moves too far: the value's gradient, the output
    wanted, exact_logits = case.exact(), case.logits
    assert all(a < b for a, b in zip(error_of(case, wanted), LIMITS))
    for kind, which in rounded.items():
        case.logits = exact_logits.to(kind).float()
        assert error_of(case, wanted)[which] > LIMITS[which]


def error_of(case: Case, wanted: tuple[Tensor, ...]) -> tuple[float, float]:
    """Of the output, and of the value's gradient as it is summed, in float32."""
    found = (case.run(deformable_attention_cuda)[0], value_gradient(case))
    return tuple(float((a.double() - b).norm() / b.norm()) for a, b in zip(found, wanted))


# Maps, copies of the first one's raster, and the rest of a case; widths of every layout.
SHAPES = {
    "four copies, as trained": ([(9, 11), (5, 6)], 4, {"channels": 70, "points": 4}, BF16, "clamp"),
    "the same, float32": ([(9, 11), (5, 6)], 4, {"channels": 70, "points": 4}, FP32, "zeros"),
    "two copies": ([(9, 11), (5, 6)], 2, {"channels": 33, "points": 3}, FP16, "zeros"),
    "three, many points": ([(7, 5), (2, 3)], 3, {"channels": 16, "points": 21}, FP32, "clamp"),
    "units alone": ([(6, 7)], 1, {"channels": 16, "points": 2}, BF16, "clamp"),
    "widest rows": ([(6, 7)], 1, {"channels": 128, "points": 5}, FP32, "zeros"),
    "wider heads, in parts": ([(3, 4)], 1, {"channels": 131, "heads": 1}, BF16, "clamp"),
    "more samples than a warp has lanes": ([(4, 4)] * 5, 1, {"points": 8}, BF16, "clamp"),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_any_widths_and_tiles_that_do_not_divide(name: str) -> None:
    maps, copies, more, kind, border = SHAPES[name]
    queries = copies * math.prod(maps[0])
    check(Case(maps, queries=queries, **more).stored(kind, FP32, FP32), border)


@pytest.mark.parametrize(
    ("offsets", "logits"), [(FP16, BF16), (BF16, FP32)], ids=["fp16 bf16", "bf16 fp32"]
)
def test_offsets_and_logits_in_half_types_of_their_own(
    offsets: torch.dtype, logits: torch.dtype
) -> None:
    case = Case([(5, 7), (3, 4)], queries=10).stored(FP32, offsets, logits)
    found, wanted = case.run(deformable_attention_cuda), case.exact()
    assert [t.dtype for t in found] == [FP32, FP32, offsets, logits]
    assert_close(found[:2], wanted[:2], 2e-6)
    assert_close(found, wanted, 4e-3)


@pytest.mark.parametrize("kind", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("border", BORDERS)
def test_windows_larger_than_the_sort_go_in_bands(border: str, kind: torch.dtype) -> None:
    maps = [(60, 70), (2, 1100), (700, 3)]
    assert all(math.prod(shape) > cuda_launch.BINS or max(shape) > 500 for shape in maps)
    case = Case(maps, queries=40, spread=300.0).stored(kind, FP32, FP32)
    found = case.run(deformable_attention_cuda, border)
    assert_close(
        found, case.exact(border), max(TOLERANCES[kind], 1e-4)
    )  # far positions are rounded


@pytest.mark.parametrize("border", BORDERS)
def test_takes_the_gradient_to_the_right_at_whole_pixels(border: str) -> None:
    case = Case([(4, 8)], queries=32, heads=1)
    x, y = torch.meshgrid(torch.arange(8), torch.arange(4), indexing="xy")
    case.reference = (torch.stack((x, y), -1).view(-1, 2) + 0.5) / torch.tensor([8.0, 4.0])
    case.offsets = case.offsets.round()
    check(case, border)


def test_positions_are_rounded_as_in_the_reference() -> None:
    case = Case([(9, 11)], queries=99, heads=1)  # ninths and elevenths are not exact in float32
    y, x = torch.meshgrid(torch.arange(9), torch.arange(11), indexing="ij")
    case.reference = (torch.stack((x, y), -1).view(-1, 2) + 0.5) / torch.tensor([11.0, 9.0])
    case.offsets = case.offsets.round()
    assert_close(case.run(deformable_attention_cuda), case.run(plain), 2e-6)


@pytest.mark.parametrize("kind", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("border", BORDERS)
def test_an_infinite_offset_reads_the_edge_or_nothing_and_nan_stays_in_its_query(
    border: str, kind: torch.dtype
) -> None:
    case, far = (Case([(5, 7)], queries=12).stored(kind, FP32, FP32) for _ in range(2))
    case.offsets[:, ::3, :, :, 0], far.offsets[:, ::3, :, :, 0] = math.inf, 1e6
    case.offsets[:, 1::3, :, :, 1], far.offsets[:, 1::3, :, :, 1] = -math.inf, -1e6
    found = case.run(deformable_attention_cuda, border)
    assert_close(found, far.run(deformable_attention_cuda, border), 1e-6)
    others = [i for i in range(12) if i != 5]
    for axis in (0, 1):
        kept, case.offsets = case.offsets, case.offsets.clone()
        case.offsets[0, 5, 0, 0, 0, axis] = math.nan
        out, grad_value, *grads = case.run(deformable_attention_cuda, border)
        broken = out.isnan()
        assert broken[0, 5, :5].all()
        assert broken.sum() == 5
        assert grad_value.isfinite().all()
        assert all(grad[:, others].isfinite().all() for grad in grads)
        case.offsets = kept


@pytest.mark.parametrize("kind", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_pixel_that_is_no_number_reaches_only_queries_that_read_it(
    wrong: float, kind: torch.dtype
) -> None:
    case = Case([(5, 7), (0, 3), (3, 1)], queries=30, points=3).stored(kind, FP32, FP32)
    case.value[0, 0, 0] = wrong  # where empty maps and samples that do not exist might read
    out, grad_value, *others = case.run(deformable_attention_cuda)
    assert torch.equal(out.isfinite(), case.exact()[0].isfinite())
    assert grad_value.isfinite().all()
    heads = out.unflatten(-1, (2, 5)).isfinite().all(-1)  # B, N, M
    assert 0 < (~heads).sum() < heads.numel() / 2
    assert all(grad[heads].isfinite().all() for grad in others)


@pytest.mark.parametrize("border", BORDERS)
def test_where_an_empty_map_would_be_read_does_not_matter(border: str) -> None:
    case = Case([(5, 7), (0, 3), (2, 0)], queries=12)
    wanted = case.run(deformable_attention_cuda, border)
    for wrong in (math.nan, math.inf):
        case.offsets[0, :, :, 1:] = wrong
        found = case.run(deformable_attention_cuda, border)
        assert all(map(torch.equal, found, wanted))


def test_numbers_beyond_two_billion_are_found(tmp_path: Path) -> None:
    case = Case([(3, 4)], batch=2, queries=4).stored(FP32, FP16, FP16)
    wanted = case.run(deformable_attention_cuda)
    far = 2**31 + 64  # from one image to the next
    told = []
    for name in ("offsets", "logits"):
        tensor = getattr(case, name)
        hollow = torch.from_file(str(tmp_path / name), shared=True, size=far + 4096, dtype=FP16)
        apart = hollow.as_strided(tensor.shape, (far, *tensor.stride()[1:])).copy_(tensor)
        told.append(apart.requires_grad_())
    value = case.value.clone().requires_grad_()
    out = deformable_attention_cuda(value, case.shapes, case.reference, *told)
    found = (out, *torch.autograd.grad(out, (value, *told), case.grad))
    assert all(map(torch.equal, found, wanted))


def test_gradients_that_are_no_numbers_stay_in_their_query() -> None:
    case = Case([(5, 7)], queries=12).stored(BF16, FP32, FP32)
    case.grad[0, 3] = math.nan
    out, grad_value, *others = case.run(deformable_attention_cuda)
    assert out.isfinite().all()
    assert 0 < grad_value.isnan().any(-1).sum() <= case.logits[0, 3].numel() * 4  # of its samples
    for grad in others:
        assert grad[0, 3].isnan().any()
        assert grad[:, [i for i in range(12) if i != 3]].isfinite().all()


def test_a_softmax_without_any_weight_is_nan_as_in_the_reference() -> None:
    case = Case([(3, 4)], points=70)  # more samples than one chunk
    case.logits[0, 2, 1] = -math.inf
    case.logits[0, 3, 0, :, ::2] = -math.inf
    case.logits[0, 4, 0, :, 65:] = 80.0
    case.logits[0, 5, 0] = torch.finfo(FP32).min  # as masks write it
    found, wanted = case.run(deformable_attention_cuda)[0], case.run(plain)[0]
    torch.testing.assert_close(found, wanted, equal_nan=True, rtol=1e-5, atol=1e-5)
    assert found[0, 2, 5:].isnan().all()
    assert found.isnan().sum() == 5


def test_writes_all_results_in_deterministic_mode() -> None:
    case = Case(DEGENERATE, batch=2)
    torch.use_deterministic_algorithms(True)  # fills fresh memory with NaN
    try:
        for border in BORDERS:
            check(case, border)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("kind", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_sums_do_not_depend_on_an_order(
    deterministic: bool, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case([(9, 11), (60, 70)], queries=99, channels=12, points=5, spread=30.0)
    case.stored(kind, FP32, FP32)
    case.grad *= torch.logspace(-6, 2, 99)[:, None].to(kind)
    found = []
    torch.use_deterministic_algorithms(deterministic)
    try:
        for backwards in (False, True):
            monkeypatch.setattr(emulate, "backwards", backwards)
            found.append(value_gradient(case))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(*found) is deterministic
    wanted = case.exact()[1]
    assert (found[0].double() - wanted).norm() <= 1e-4 * wanted.norm()


@pytest.mark.parametrize("kind", [FP32, BF16], ids=["fp32", "bf16"])
def test_a_small_card_sorts_in_smaller_blocks(
    kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case([(9, 11), (12, 13)], queries=99, points=16).stored(kind, FP32, FP32)
    monkeypatch.setattr(cuda_launch, "shared_memory", lambda device: 100 * 1024)
    wanted = case.exact()[1]
    found = value_gradient(case).double()
    assert (found - wanted).norm() <= 1e-4 * wanted.norm()
    cut = cuda_launch.scatter_cut(70, 16, kind.itemsize, memory=100 * 1024)
    assert cut.queries == 64


def test_weights_that_carry_their_places_are_not_biased() -> None:
    case = Case([(9, 11), (40, 60)], queries=99, points=16, spread=15.0).stored(BF16, FP32, FP32)
    case.grad = torch.ones_like(case.grad)
    found, wanted = value_gradient(case).double().sum(), case.grad.numel()  # shares add up to 1
    assert abs(found - wanted) <= 1e-5 * wanted


def value_gradient(case: Case) -> Tensor:
    """As it is summed, before it gets the value's type."""
    sizes = [side for shape in case.shapes for side in shape]
    told = (case.value, sizes, case.reference, case.offsets, case.logits, True)
    return cuda_launch.scatter(fused.Attention(*told), case.grad, cuda_gpu._attend(*told)[1])


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_integer_sums_hold_gradients_of_any_size_and_no_number_is_lost(factor: float) -> None:
    case = Case([(2, 3)], queries=240, heads=1, points=4)
    case.offsets *= 0.1  # all read a few pixels,
    case.grad = factor * case.grad.abs()  # and move them in one direction
    wanted = case.exact()[1]
    torch.use_deterministic_algorithms(True)
    try:
        found = value_gradient(case)
        assert (found.double() - wanted).norm() <= 1e-6 * wanted.norm()
        case.logits[0, 3, 0] = -math.inf
        assert value_gradient(case).isnan().all()
        case.logits[0, 3, 0] = 0.0
        case.grad[0, 5, 1] = math.nan
        assert value_gradient(case).isnan().all()
        case.grad.zero_()
        assert not value_gradient(case).any()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("kind", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shift", [0, 1])
def test_reads_slices_of_a_wider_projection_at_any_address(shift: int, kind: torch.dtype) -> None:
    case = Case([(3, 4)], heads=1, points=3, batch=2).stored(kind, FP32, FP32)
    flat = torch.cat((case.offsets.flatten(2), case.logits.flatten(2)), -1)  # an odd stride
    joint = torch.empty(flat.numel() + 1)[shift : shift + flat.numel()].view_as(flat).copy_(flat)
    offsets, logits = joint.split([6, 3], -1)
    places = (offsets.unflatten(-1, (1, 1, 3, 2)), logits.unflatten(-1, (1, 1, 3)))
    value = torch.empty(case.value.numel() + 1, dtype=kind)[shift : shift + case.value.numel()]
    value = value.view_as(case.value).copy_(case.value)
    found = deformable_attention_cuda(value, case.shapes, case.reference, *places)
    assert torch.equal(found, case.run(deformable_attention_cuda)[0])


@pytest.mark.parametrize(
    "empty", [{"queries": 0}, {"points": 0}, {"batch": 0}, {"channels": 0}, {"shapes": [(0, 3)]}]
)
def test_takes_empty_tensors(empty: dict) -> None:
    case = Case(**{"shapes": [(3, 4)]} | empty)
    out, *grads = case.run(deformable_attention_cuda)
    assert out.shape == case.grad.shape
    assert not any(tensor.count_nonzero() for tensor in (out, *grads))


def test_compiles_without_a_graph_break_and_recomputes_under_checkpointing() -> None:
    case = Case([(3, 4)], queries=8)
    wanted = case.run(deformable_attention_cuda)
    whole = torch.compile(deformable_attention_cuda, backend="aot_eager", fullgraph=True)
    assert_close(case.run(whole), wanted, 1e-6)

    def recomputed(*args: object) -> Tensor:
        return checkpoint(deformable_attention_cuda, *args, use_reentrant=False)

    assert_close(case.run(recomputed), wanted, 1e-6)


def test_follows_the_rules_of_custom_operators() -> None:
    case = Case([(2, 2)], queries=4, heads=1)
    value, offsets, logits = (t.requires_grad_() for t in case.differentiable())
    arguments = (value, [2, 2], case.reference, offsets, logits, True)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(cuda_gpu._attend, arguments, test_utils=checks)


def test_fake_tensors_on_a_gpu_have_the_shapes_of_real_ones() -> None:
    case = Case([(3, 4)]).stored(BF16, FP32, FP16)
    leaves = case.differentiable()
    with FakeTensorMode():
        fakes = [torch.empty(t.shape, dtype=t.dtype, device="cuda") for t in leaves]
        points = torch.empty(case.reference.shape, device="cuda")
        told = (fakes[0], [3, 4], points, *fakes[1:], True)
        out = deformable_attention(fakes[0], case.shapes, points, *fakes[1:])
        lse = torch.empty(case.logits.shape[:3], device="cuda")
        grads = torch.ops.mtl.deformable_attention_cuda_backward(out, out, lse, *told)
    assert (out.shape, out.dtype, out.device.type) == (case.grad.shape, BF16, "cuda")
    assert [(g.shape, g.dtype) for g in grads] == [(t.shape, t.dtype) for t in leaves]


def test_integer_sums_wait_for_no_number_so_that_graphs_can_be_recorded() -> None:
    with FakeTensorMode():  # which has no numbers to look at
        numbers, others = torch.empty(5, 3, device="cuda"), torch.empty(4, device="cuda")
        scale = cuda_launch.integer_scale(numbers, 5, others)
        sums = cuda_launch.counted(torch.empty(2, 3, dtype=torch.int64, device="cuda"), scale)
    assert (scale.shape, sums.dtype, sums.device.type) == ((), FP32, "cuda")


def test_keeps_positions_exact_under_autocast() -> None:
    case = Case([(300, 400)], queries=12, channels=2)
    ramp = torch.linspace(0, 400, 400, dtype=torch.half).repeat(300)
    value = ramp[None, :, None, None].repeat(1, 1, 2, 2)
    arguments = (case.shapes, case.reference, case.offsets, case.logits)
    wanted = plain(value.double(), *arguments)
    with torch.autocast("cpu", BF16):
        out = deformable_attention_cuda(value, *arguments)
    assert_close([out], [wanted], 1e-3)


def test_refuses_a_second_derivative() -> None:
    case = Case([(3, 4)], queries=4)
    value, offsets, logits = (t.requires_grad_() for t in case.differentiable())
    out = deformable_attention_cuda(value, case.shapes, case.reference, offsets, logits)
    (grad,) = torch.autograd.grad(out.square().sum(), offsets, create_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        grad.sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": torch.zeros(1, 12, 2, 5).double()}, "float64"),
        ({"offsets": torch.zeros(1, device="meta")}, "offsets is on meta"),
        ({"shapes": [(1, 2**16)]}, "0 to 65535"),
    ],
    ids=["float64", "device", "long"],
)
def test_refuses_what_the_kernels_could_not_read(change: dict, message: str) -> None:
    case = Case([(3, 4)])
    names = ("value", "shapes", "reference", "offsets", "logits")
    arguments = {name: getattr(case, name) for name in names} | change
    with pytest.raises(InputError, match=message):
        deformable_attention_cuda(**arguments)


def test_the_cpu_is_refused_without_the_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_launch, "load", cuda_driver.load)
    with pytest.raises(InputError, match="on cpu; the cuda operator"):
        Case([(3, 4)]).run(deformable_attention_cuda)


class Refusing:
    """Stands before the launches and refuses some kernels."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *kernels: str) -> None:
        self.kernels, self.load = kernels, cuda_launch.load
        monkeypatch.setattr(cuda_launch, "load", self)
        monkeypatch.setattr(standby, "_strict", [])
        monkeypatch.setattr(standby, "_retired", set())

    def __call__(self, code: object, name: str, *rest: object) -> object:
        if name in self.kernels:
            raise Refused("no such machine")
        return self.load(code, name, *rest)


class Others:
    """Kernels that stand by, as Triton's do: plain PyTorch that counts its calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.plain = fused.Kernels(name="others", forward=self.refuse, backward=self.refuse)
        monkeypatch.setattr(cuda_gpu, "_others", lambda: self.plain)

    def refuse(self, attention: fused.Attention, *args: object) -> None:
        self.calls += 1
        self.told_whole = attention.reference.is_contiguous()
        raise RuntimeError("nor here")


@pytest.mark.parametrize("kernel", ["pack", "forward", "inner", "differentiate", "scatter"])
def test_others_take_over_where_a_kernel_fails_and_plain_pytorch_after_them(
    kernel: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    others = Others(monkeypatch)
    Refusing(monkeypatch, kernel)
    for border in BORDERS:
        case = Case(DEGENERATE, batch=2)
        case.reference = case.reference.T.contiguous().T
        check(case, border)
    assert others.told_whole
    first, second = [r.message for r in caplog.records]
    assert "no fused cuda kernels (Refused: no such machine): triton's take over" in first
    assert "no fused others kernels" in second
    assert others.calls == 1


def test_the_variable_forces_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, "cuda")
    assert choice.choose(torch.zeros(1)) is deformable_attention_cuda
