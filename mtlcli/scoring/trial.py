"""One contender's turn: does it run and fit, how long, how exact; time and memory by one clock."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from mtlcli.errors import MtlError
from mtlcli.files import gigabytes
from mtlcli.scoring.contenders import Contender, Workload

LONG = 5.0  # seconds after which one run, without another to warm up, is enough
FREE, PEAK, STATUS = (Path("/proc") / p for p in ("meminfo", "self/clear_refs", "self/status"))
FEW = 64  # queries: of a first try, and of those compared with float64
ROOM = 0.8  # of the free memory
SHORT = 0.1  # seconds; on a GPU, which nobody shares, what takes longer is measured once


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Some runs of one thing."""

    seconds: tuple[float, ...]  # wall-clock, of each run
    extra_bytes: int | None  # by which memory grew at most; None where that cannot be read

    @property
    def ms(self) -> float:
        """Median milliseconds."""
        return 1e3 * median(self.seconds)


def take_time(function: Callable[[], object], device: torch.device, repeats: int) -> Timing:
    """Run once to warm up, and to see the memory, then `repeats` times; a long one only once."""
    first: list[float] = []
    extra = extra_bytes(lambda: first.append(seconds(function, device)), device)
    runs = first if first[0] > LONG else [seconds(function, device) for _ in range(repeats)]
    return Timing(seconds=tuple(runs), extra_bytes=extra)


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Time one run."""
    finish(device)
    began = time.perf_counter()
    function()
    finish(device)
    return time.perf_counter() - began


def finish(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def extra_bytes(function: Callable[[], object], device: torch.device) -> int | None:
    """How much memory grows at most while the function runs (Linux, or a CUDA device)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu" or not PEAK.exists():
        function()
        return None
    PEAK.write_text("5")  # forget the peak so far
    before = _kilobytes(STATUS, "VmRSS")
    function()
    return (_kilobytes(STATUS, "VmHWM") - before) * 1024


def free_bytes(device: torch.device) -> float:
    """Memory that can still be had; infinite where that cannot be read."""
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what torch holds of earlier work
        return torch.cuda.mem_get_info(device)[0]
    return _kilobytes(FREE, "MemAvailable") * 1024 if FREE.exists() else float("inf")


def _kilobytes(path: Path, key: str) -> int:
    lines = path.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contender in one direction."""

    name: str
    family: str
    dtype: str
    direction: str  # forward or forward_backward
    flops: float
    timing: Timing | None = None
    error: float | None = None
    absent: str | None = None  # why it was not measured

    @property
    def ms(self) -> float | None:
        """Median wall-clock time."""
        return self.timing.ms if self.timing else None

    def to_json(self) -> dict[str, Any]:
        """As plain types."""
        record = asdict(replace(self, timing=None))
        del record["timing"]
        runs, extra = 0, None
        if self.timing:
            runs, extra = len(self.timing.seconds), self.timing.extra_bytes
        return record | {"ms": self.ms, "runs": runs, "extra_bytes": extra}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What contenders are asked to do, all the same."""

    workload: Workload
    backward: bool  # forward and backward, or forward only
    repeats: int
    device: torch.device

    def measure(self, contender: Contender) -> Row:
        """The contender's row, which says why if it was not measured."""
        row = Row(
            name=contender.name,
            family=contender.family,
            dtype=contender.dtype,
            direction="forward_backward" if self.backward else "forward",
            flops=contender.flops(self.workload, self.backward),
        )
        few = self.workload.every(max(1, self.workload.queries // FEW))
        try:  # the smallest task: kernels compile here, and what this machine lacks is refused
            self._task(contender, few)()
        except (RuntimeError, MtlError) as error:
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            return replace(row, absent=f"does not run here: {line.split('. ')[0].rstrip('.')}")
        needed, free = contender.scratch(self.workload, self.backward), free_bytes(self.device)
        if needed > ROOM * free:
            said = f"needs {gigabytes(needed)}, {gigabytes(free)} are free"
            return replace(row, absent=f"does not fit: {said}")
        outputs: list[Tensor] = []
        timing = take_time(self._task(contender, self.workload, outputs), self.device, self.repeats)
        error_ = contender.error(self.workload, outputs[-1], FEW)
        return replace(row, timing=timing, error=error_)

    def again(self, contender: Contender, row: Row) -> Row:
        """The row with one run more, if a run is short."""
        if row.timing is None or len(row.timing.seconds) == 1:
            return row
        if self.device.type == "cuda" and max(row.timing.seconds) > SHORT:
            return row
        more = take_time(self._task(contender, self.workload), self.device, 1).seconds
        return replace(row, timing=replace(row.timing, seconds=row.timing.seconds + more))

    def _task(
        self, contender: Contender, work: Workload, outputs: list[Tensor] | None = None
    ) -> Callable[[], None]:
        """What is timed; the last output is left in `outputs`."""
        leaves = [leaf.detach().requires_grad_(self.backward) for leaf in contender.leaves(work)]

        def task() -> None:
            with torch.inference_mode(not self.backward):
                out = contender.call(work, leaves)
            if self.backward:
                torch.autograd.grad(out, leaves, torch.ones_like(out))
            if outputs is not None:
                outputs[:] = [out.detach()]

        return task
