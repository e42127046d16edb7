"""Sampled channels are those of a deformable convolution; also by the CUDA kernels, emulated."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torchvision.ops import deform_conv2d

from mtlcli.ops import channels, choice, standby
from mtlcli.ops.channels import sample_channels, sample_plainly
from tests.emulator import emulate
from tests.emulator.emulate import COMPILER, Refused, emulated

SIZES = [(5, 7), (1, 6), (4, 1), (1, 1), (2, 2), (3, 300)]
Results = tuple[Tensor, Tensor, Tensor]


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CUDA kernels run here, and nothing stands by for them."""
    pytest.importorskip("cuda.bindings", reason="the bindings of CUDA are not installed")
    if COMPILER is None:
        pytest.skip("g++ is not here")
    emulated(monkeypatch)
    monkeypatch.setattr(standby, "_strict", [None])
    monkeypatch.setattr(channels, "_is_fused", lambda x, offsets: x.dtype == torch.float32)


def problem(height: int, width: int, batch: int = 2) -> list[Tensor]:
    """x, offsets of which none reads near a whole pixel, where gradients jump, and a gradient."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    x, grad = torch.randn(2, batch, 3, height, width, generator=generator)
    offsets = 2 * torch.randn(batch, 6, height, width, generator=generator)
    offsets[(offsets - offsets.round()).abs() < 1e-3] += 0.01
    return [x, offsets, grad]


def run(operator: Callable[..., Tensor], x: Tensor, offsets: Tensor, grad: Tensor) -> Results:
    leaves = [tensor.clone().requires_grad_() for tensor in (x, offsets)]
    out = operator(*leaves)
    return out.detach(), *torch.autograd.grad(out, leaves, grad)


def convolve(x: Tensor, offsets: Tensor) -> Tensor:
    """By torchvision, which shares no code."""
    weight = torch.eye(x.shape[1], dtype=x.dtype)[:, :, None, None]
    return deform_conv2d(x, offsets, weight)


def exact(x: Tensor, offsets: Tensor, grad: Tensor) -> Results:
    return run(convolve, x.double(), offsets.double(), grad.double())


def assert_close(found: Results, wanted: Results, tolerance: float = 2e-6) -> None:
    for a, b in zip(found, wanted):
        assert (a.double() - b).norm() <= tolerance * b.norm() + 1e-30


@pytest.mark.parametrize("size", SIZES)
def test_equals_a_deformable_convolution_in_double_precision(
    size: tuple[int, int], on_cuda: None
) -> None:
    given = problem(*size)
    assert_close(run(sample_channels, *given), exact(*given), 2e-5 if max(size) > 99 else 2e-6)


def test_plain_pytorch_equals_a_deformable_convolution() -> None:
    given = [tensor.double() for tensor in problem(5, 7)]
    assert_close(run(sample_plainly, *given), exact(*given), 1e-12)
    assert_close(run(sample_channels, *given), exact(*given), 1e-12)  # of this type it is that


def test_takes_the_gradient_to_the_right_at_whole_pixels(on_cuda: None) -> None:
    x, offsets, grad = problem(4, 6)
    offsets = offsets.round()
    found = run(sample_channels, x, offsets, grad)
    beside = (offsets.double() + 1e-9).clone()
    wanted = run(convolve, x.double(), beside, grad.double())
    assert_close(found, wanted)


def test_infinity_reads_nothing_and_nan_stays_where_it_is(on_cuda: None) -> None:
    x, offsets, grad = problem(5, 7)
    far = offsets.clone()
    offsets[:, 0, 1], far[:, 0, 1] = math.inf, 1e6
    offsets[:, 3, 2], far[:, 3, 2] = -math.inf, -1e6
    found = run(sample_channels, x, offsets, grad)
    assert all(map(torch.equal, found, run(sample_channels, x, far, grad)))
    assert not found[0][:, 0, 1].any()
    x[0, 0, 2, 2] = 0.0  # also of a pixel that is zero
    for axis in (0, 1):
        broken = offsets.clone()
        broken[0, axis, 2, 2] = math.nan
        out, grad_x, grad_offsets = run(sample_channels, x, broken, grad)
        assert out.isnan().nonzero().tolist() == [[0, 0, 2, 2]]
        assert not grad_offsets[0, :2, 2, 2].any()
        silent = grad.clone()
        silent[0, 0, 2, 2] = 0
        assert torch.equal(grad_x, run(sample_channels, x, offsets, silent)[1])


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_pixel_that_is_no_number_reaches_what_reads_it(wrong: float, on_cuda: None) -> None:
    x, offsets, grad = problem(5, 7)
    wanted = run(sample_channels, x, offsets, grad)
    x[0, 0, 2, 3] = x[0, 1, 0, 3] = wrong
    reads = run(sample_channels, (~x.isfinite()).float(), offsets, grad)[0] != 0
    assert 0 < reads.sum() < 30
    out, grad_x, grad_offsets = run(sample_channels, x, offsets, grad)
    assert torch.equal(~out.isfinite(), reads)
    assert torch.equal(grad_x, wanted[1])
    pairs = reads.repeat_interleave(2, 1)
    assert torch.equal(grad_offsets[~pairs], wanted[2][~pairs])


def test_takes_empty_tensors_and_those_that_are_not_contiguous(on_cuda: None) -> None:
    for shape in [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)]:
        batch, width, *size = shape
        given = [torch.randn(batch, n * width, *size) for n in (1, 2, 1)]
        assert [t.shape for t in run(sample_channels, *given)] == [
            given[i].shape for i in (0, 0, 1)
        ]
    given = problem(5, 7)
    turned = [tensor.mT.contiguous().mT for tensor in given]
    assert all(map(torch.equal, run(sample_channels, *turned), run(sample_channels, *given)))


def test_nothing_is_compiled_apart_and_checkpointing_computes_it_again(on_cuda: None) -> None:
    given = problem(5, 7)
    wanted = run(sample_channels, *given)
    whole = torch.compile(sample_channels, backend="aot_eager", fullgraph=True)
    again = lambda *args: checkpoint(sample_channels, *args, use_reentrant=False)  # noqa: E731
    for operator in (whole, again):
        assert all(map(torch.equal, run(operator, *given), wanted))
    with torch.inference_mode():
        assert torch.equal(sample_channels(*given[:2]), wanted[0])


def test_follows_the_rules_of_custom_operators(on_cuda: None) -> None:
    x, offsets, _ = problem(2, 3)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    told = (x.requires_grad_(), offsets.requires_grad_())
    torch.library.opcheck(channels._operator, told, test_utils=checks)
    (grad,) = torch.autograd.grad(sample_channels(*told).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once only"):
        grad.sum().backward()


def test_shapes_alone_are_known_of_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [tensor.shape for tensor in problem(5, 7)]
    with FakeTensorMode():
        monkeypatch.setattr(choice, "named", lambda value: "cuda")
        given = [torch.empty(shape, device="cuda") for shape in shapes]
        out = sample_channels(*given[:2])
        grads = channels._partner(given[2], *given[:2])
    assert [(t.shape, t.device.type) for t in (out, *grads)] == [
        (given[i].shape, "cuda") for i in (0, 0, 1)
    ]
    given = [tensor.to("meta") for tensor in problem(5, 7)]
    assert [t.shape for t in run(sample_channels, *given)] == [given[i].shape for i in (0, 0, 1)]


def test_what_has_no_kernel_is_left_to_grid_sample() -> None:
    x, offsets, _ = problem(5, 7)
    for kind in (torch.float64, torch.bfloat16):
        given = (x.to(kind), offsets.to(kind))
        assert torch.equal(sample_channels(*given), sample_plainly(*given))
    for name, fused in {"auto": True, "reference": False, "triton": False}.items():
        with FakeTensorMode() as mode, pytest.MonkeyPatch.context() as patch:
            patch.setenv(choice.VARIABLE, name)
            there = [mode.from_tensor(tensor).to("cuda") for tensor in (x, offsets)]
            assert channels._is_fused(*there) is fused
            assert not channels._is_fused(there[0].half(), there[1].half())


@pytest.mark.parametrize("failing", ["read", "differentiate"])
def test_grid_sample_takes_over_from_a_kernel_that_fails(
    failing: str, on_cuda: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mtlcli.ops import cuda_channels

    def fail(*args: object) -> None:
        raise Refused("no such machine")

    monkeypatch.setattr(standby, "_strict", [])
    monkeypatch.setattr(standby, "_retired", set())
    monkeypatch.setattr(cuda_channels, failing, fail)
    given = problem(5, 7)
    for _ in range(2):
        assert_close(run(sample_channels, *given), exact(*given), 1e-5)
    (record,) = caplog.records
    assert "no fused channel kernels (Refused: no such machine): grid_sample" in record.message


# The order of the sums on CUDA -------------------------------------------------------------------


def crowd() -> list[Tensor]:
    """A plane whose numbers nearly all read the same few pixels, of more than one block."""
    x, offsets, grad = problem(20, 30, batch=1)
    y, columns = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    offsets[:, 0::2] = 0.3 * offsets[:, 0::2] + 9.5 - y
    offsets[:, 1::2] = 0.3 * offsets[:, 1::2] + 9.5 - columns
    return [x, offsets, grad * torch.logspace(-6, 2, 30)]


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_sums_on_cuda_do_not_depend_on_an_order(
    deterministic: bool, on_cuda: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.use_deterministic_algorithms(deterministic)
    try:
        first = run(sample_channels, *crowd())
        monkeypatch.setattr(emulate, "backwards", True)
        second = run(sample_channels, *crowd())
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first[1], second[1]) is deterministic
    assert torch.equal(first[2], second[2])
    assert_close(first, exact(*crowd()), 3e-6)


def test_plain_pytorch_has_a_deterministic_gradient_on_cuda() -> None:
    shapes = [tensor.shape for tensor in problem(5, 7)]
    for deterministic in (True, False):
        torch.use_deterministic_algorithms(deterministic)
        try:
            with FakeTensorMode(), Operators() as seen:
                sample_plainly(*(torch.empty(shape, device="cuda") for shape in shapes[:2]))
        finally:
            torch.use_deterministic_algorithms(False)
        assert (torch.ops.aten.grid_sampler_2d in seen.packets) is not deterministic


class Operators(TorchDispatchMode):
    """Notes what is called."""

    def __init__(self) -> None:
        super().__init__()
        self.packets: set[object] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.packets.add(func.overloadpacket)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_integer_sums_hold_gradients_of_any_size(factor: float, on_cuda: None) -> None:
    x, offsets, grad = crowd()
    grad = factor * grad.abs()  # all in one direction
    torch.use_deterministic_algorithms(True)
    try:
        found = run(sample_channels, x, offsets, grad)
        nothing = run(sample_channels, x, offsets, 0 * grad)
        grad[0, 0, 0, 0] = math.inf
        broken = run(sample_channels, x, offsets, grad)
    finally:
        torch.use_deterministic_algorithms(False)
    wanted = exact(x, offsets, factor * crowd()[2].abs())
    assert (found[1].double() - wanted[1]).norm() <= 1e-6 * wanted[1].norm()
    assert not nothing[1].any()
    assert broken[1].isnan().all()
