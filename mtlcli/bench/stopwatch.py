"""Time, memory and the machine's own speed, by the same clock."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch

LONG = 5.0  # seconds after which one run, without another to warm up, is enough
RUNS = 7  # of a floor
COPIED = 256 * 2**20  # bytes
SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices that are multiplied
FREE, PEAK, STATUS = (Path("/proc") / p for p in ("meminfo", "self/clear_refs", "self/status"))


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Some runs of one thing."""

    wall: tuple[float, ...]  # seconds
    processor: tuple[float, ...]  # seconds of all threads
    extra_bytes: int | None  # by which memory grew at most; None where that cannot be read

    @property
    def ms(self) -> float:
        """Median milliseconds."""
        return 1e3 * median(self.wall)

    @property
    def cpu_ms(self) -> float:
        """Median milliseconds of processor time."""
        return 1e3 * median(self.processor)

    def with_runs(self, more: "Timing") -> "Timing":
        """The runs of both."""
        return replace(self, wall=self.wall + more.wall, processor=self.processor + more.processor)


@dataclass(frozen=True, kw_only=True)
class Floor:
    """What the machine can do at most, as measured."""

    bytes_per_s: float  # of a copy, read and written
    flops_per_s: dict[str, float]  # of a matrix product, by type

    def ms(self, traffic: float, flops: float, dtype: str) -> float:
        """The least time that so many bytes and operations take."""
        return 1e3 * max(traffic / self.bytes_per_s, flops / self.flops_per_s[dtype])


def timed(function: Callable[[], object], device: torch.device, repeats: int) -> Timing:
    """Run once to warm up, and to see the memory, then `repeats` times; a long one only once."""
    first: list[tuple[float, float]] = []
    extra = extra_bytes(lambda: first.append(_seconds(function, device)), device)
    long = first[0][0] > LONG
    runs = first if long else [_seconds(function, device) for _ in range(repeats)]
    wall, processor = zip(*runs)
    return Timing(wall=wall, processor=processor, extra_bytes=extra)


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


def floor(device: torch.device, dtypes: dict[str, torch.dtype], quick: bool) -> Floor:
    """Measure a large copy, and matrix products of each type; the best of a few runs counts."""
    source = torch.ones((COPIED // 8 if quick else COPIED) // 4, device=device)
    target = torch.empty_like(source)
    copied = timed(lambda: target.copy_(source), device, RUNS)
    side = SIDE.get(device.type, 2048) // (4 if quick else 1)
    rates = {}
    for name, dtype in dtypes.items():
        matrix = torch.ones(side, side, dtype=dtype, device=device)
        multiplied = timed(lambda matrix=matrix: matrix @ matrix, device, RUNS)  # type: ignore[misc]
        rates[name] = 2 * side**3 / min(multiplied.wall)
    return Floor(bytes_per_s=2 * source.nbytes / min(copied.wall), flops_per_s=rates)


def _seconds(function: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Wall-clock and processor time of one run."""

    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    finish()
    wall, processor = time.perf_counter(), time.process_time()
    function()
    finish()
    return time.perf_counter() - wall, time.process_time() - processor


def _kilobytes(path: Path, key: str) -> int:
    lines = path.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))
