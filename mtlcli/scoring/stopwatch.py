"""Time and memory of one thing, by the same clock."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

LONG = 5.0  # seconds after which one run, without another to warm up, is enough
FREE, PEAK, STATUS = (Path("/proc") / p for p in ("meminfo", "self/clear_refs", "self/status"))


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Some runs of one thing."""

    seconds: tuple[float, ...]  # wall-clock, of each run
    extra_bytes: int | None  # by which memory grew at most; None where that cannot be read

    @property
    def ms(self) -> float:
        """Median milliseconds."""
        return 1e3 * median(self.seconds)


def timed(function: Callable[[], object], device: torch.device, repeats: int) -> Timing:
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
        return torch.cuda.mem_get_info(device)[0]
    return _kilobytes(FREE, "MemAvailable") * 1024 if FREE.exists() else float("inf")


def _kilobytes(path: Path, key: str) -> int:
    lines = path.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))
