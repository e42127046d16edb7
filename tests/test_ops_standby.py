"""Where fused kernels fail, early or late, plain PyTorch answers after one line."""

import logging

import pytest
import torch
from torch import Tensor

from mtlcli.errors import RunError
from mtlcli.ops import choice, deformable_attention, numba_cpu, standby
from mtlcli.ops.reference import deformable_attention as plain

SHAPES = [(5, 7), (3, 4)]
SIZES = [5, 7, 3, 4]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, "numba")
    monkeypatch.setattr(standby, "_retired", set())


class Inputs:
    """Random tensors for 9 queries of 3 heads; none of the points near a whole pixel."""

    def __init__(self, seed: int = 0, channels: int = 6, dtype: torch.dtype = torch.float32):
        generator = torch.Generator().manual_seed(seed)
        self.value = torch.randn(2, 47, 3, channels, generator=generator).to(dtype)
        self.points = torch.rand(9, 2, generator=generator)
        self.offsets = 3 * torch.randn(2, 9, 3, 2, 4, 2, generator=generator)
        self.logits = torch.randn(2, 9, 3, 2, 4, generator=generator)
        self.grad = torch.randn(2, 9, 3 * channels, generator=generator).to(dtype)

    def leaves(self) -> list[Tensor]:
        return [t.clone().requires_grad_() for t in (self.value, self.offsets, self.logits)]

    def run(self, operator=deformable_attention, border: str = "clamp") -> list[Tensor]:
        """The output and the gradients of value, offsets and logits."""
        value, offsets, logits = leaves = self.leaves()
        out = operator(value, SHAPES, self.points, offsets, logits, border)
        return [out.detach(), *torch.autograd.grad(out, leaves, self.grad)]


def assert_plain(inputs: Inputs, border: str = "clamp", tolerance: float = 1e-5) -> None:
    for found, wanted in zip(inputs.run(border=border), inputs.run(plain, border)):
        assert found.dtype == wanted.dtype
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


def failing(monkeypatch: pytest.MonkeyPatch, kernel: str, error: Exception, after: int = 0) -> list:
    """Let a kernel raise from its call number `after` on; returns the list of its calls."""
    calls: list[str] = []
    run_units = numba_cpu.run_units

    def run(function, *args):
        if function is getattr(numba_cpu, kernel):
            calls.append(kernel)
            if len(calls) > after:
                raise error
        run_units(function, *args)

    monkeypatch.setattr(numba_cpu, "run_units", run)
    return calls


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize("border", ["clamp", "zeros"])
@pytest.mark.parametrize("kernel", ["forward", "backward"])
def test_a_kernel_that_fails_is_replaced_once_and_for_all(
    kernel: str, border: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = failing(monkeypatch, kernel, RuntimeError("PassManager::run failed\nat line 7"))
    for seed in range(3):
        assert_plain(Inputs(seed), border)
    assert len(calls) == 1
    (line,) = lines(caplog)
    assert "numba" in line
    assert "PassManager::run failed" in line
    assert "line 7" not in line


def test_a_later_shape_may_be_the_first_to_fail(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = failing(monkeypatch, "forward", OSError("no compiler"), after=2)
    for channels in (6, 6, 13, 40, 13):
        assert_plain(Inputs(channels=channels))
    assert len(calls) == 3
    assert len(lines(caplog)) == 1


def test_half_values_and_slices_of_a_projection_are_answered_in_their_types(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(monkeypatch, "backward", ValueError("refused"))
    assert_plain(Inputs(dtype=torch.bfloat16), tolerance=2e-2)
    inputs = Inputs()
    joint = torch.cat((inputs.offsets.flatten(2), inputs.logits.flatten(2)), -1)
    offsets, logits = joint.split([inputs.offsets[0, 0].numel(), inputs.logits[0, 0].numel()], -1)
    inputs.offsets = offsets.view(inputs.offsets.shape)
    inputs.logits = logits.view(inputs.logits.shape)
    inputs.value = inputs.value.transpose(1, 2).contiguous().transpose(1, 2)
    assert_plain(inputs)


def test_compiled_and_bare_calls_are_answered_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inputs = Inputs()
    wanted = inputs.run(plain)
    failing(monkeypatch, "forward", RuntimeError("refused"))
    with torch.inference_mode():
        out = deformable_attention(
            inputs.value, SHAPES, inputs.points, inputs.offsets, inputs.logits
        )
    torch.testing.assert_close(out, wanted[0])
    monkeypatch.setattr(standby, "_retired", set())
    failing(monkeypatch, "backward", RuntimeError("refused"))
    fused = torch.compile(numba_cpu.deformable_attention_numba, backend="aot_eager", fullgraph=True)
    for found, expected in zip(inputs.run(fused), wanted):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert len(lines(caplog)) == 2


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        MemoryError(),
        RunError("asked to stop"),
    ],
    ids=["torch", "triton", "python", "ours"],
)
def test_short_memory_and_our_own_errors_pass_unchanged(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing(monkeypatch, "forward", error, after=1)
    Inputs().run()
    for _ in range(2):
        with pytest.raises(type(error)):
            Inputs().run()
    assert not lines(caplog)


def test_a_shared_memory_limit_is_no_shortage_of_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = "out of resource: shared memory, Required: 260000, Hardware limit: 232448"
    failing(monkeypatch, "forward", RuntimeError(said))
    assert_plain(Inputs())
    assert said in lines(caplog)[0]


class Gone:
    """A CUDA device that answers with an error, or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, dead: bool, recording: bool = False):
        self.dead = dead
        monkeypatch.setattr(torch.cuda, "synchronize", self.synchronize)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: recording)

    def synchronize(self, device: torch.device) -> None:
        if self.dead:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nand so on")


def raising() -> int:
    raise ValueError("launch failed")


def test_a_lost_gpu_is_one_line_and_a_living_one_goes_on_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (torch.device("cuda", i) for i in range(2))
    gpu = Gone(monkeypatch, dead=True)
    with pytest.raises(RunError, match=r"cuda:0 no longer answers.*illegal memory") as caught:
        standby.attempt("triton", first, raising, lambda: 2)
    assert len(str(caught.value).splitlines()) == 1
    gpu.dead = False
    assert standby.attempt("triton", first, raising, lambda: 2) == 2
    assert standby.attempt("triton", first, lambda: 1, lambda: 2) == 2
    assert standby.attempt("triton", second, lambda: 1, lambda: 2) == 1
    assert len(lines(caplog)) == 1


def test_a_recording_into_a_graph_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    Gone(monkeypatch, dead=True, recording=True)
    with pytest.raises(ValueError, match="launch failed"):
        standby.attempt("triton", torch.device("cuda", 0), raising, lambda: 2)


def test_nothing_stands_in_where_kernels_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, "forward", RuntimeError("refused"))
    for _ in range(2):
        with standby.strict(), pytest.raises(RunError, match=r"no fused numba kernels.*refused"):
            Inputs().run()
        assert_plain(Inputs())
