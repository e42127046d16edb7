"""`mtl bench attention`: deformable attention against what it replaces, in one run (Table 6)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tqdm import tqdm

from mtlcli import lookup
from mtlcli.bench import stopwatch
from mtlcli.bench.contenders import DTYPES, GRID, LINEAR, OURS, PLAIN, SDPA, Contender, contenders
from mtlcli.bench.scaling import Scaling, scaling
from mtlcli.bench.stopwatch import Floor
from mtlcli.bench.trial import Row, Trial
from mtlcli.bench.workload import Workload, make
from mtlcli.errors import InputError
from mtlcli.ops.devices import pick_device
from mtlcli.ops.precision import numerics
from mtlcli.runs.table import markdown

Ratios = dict[str, dict[str, float | None]]
DEFAULT_DTYPE = {"cuda": "bf16"}
CONVENTIONS = {
    "scope": "softmax, sampling or scores, and weighted sum; no linear maps",
    "ms": "median wall-clock time of the runs; cpu_ms: processor time of all threads",
    "scaled_from": "measured on so many queries, and scaled by their power (1 or, for SDPA, 2)",
    "flops": "2 per multiply-add, 3 per softmax element, 16 per point; backward 2 or (SDPA) 2.5 "
    "times the forward pass's; a ratio of them is no speed-up",
    "bytes": "each input read and each output written once",
    "floor_share": "time that a copy of the bytes or a matrix product of as many operations takes, "
    "whichever is longer, over the time taken",
    "error": "relative, against float64, of 64 queries",
    "ratios": "baseline's time over ours",
    "precision": "float32 matrix products on CUDA may use TF32, as in training",
}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that was measured."""

    workload: Workload
    device: str
    dtype: str  # of ours, in `ratios`
    floor: Floor
    rows: tuple[Row, ...]
    scaling: Scaling | None = None

    def ratios(self, dtype: str | None = None, linear: bool = False) -> Ratios:
        """direction -> baseline -> its time over that of our quickest operator of this type.

        linear: with the linear maps before and after, measured apart and added.
        """
        found: Ratios = {}
        for direction in dict.fromkeys(row.direction for row in self.rows):
            ours = self._quickest(direction, OURS, dtype or self.dtype, linear)
            found[direction] = {
                f"vs_{label}": _ratio(self._quickest(direction, family, of_type, linear), ours)
                for label, family, of_type in (
                    ("sdpa_fp32", SDPA, "fp32"),
                    ("sdpa_bf16", SDPA, "bf16"),
                    ("grid_sample", GRID, "fp32"),
                )
            }
        return found

    def _quickest(self, direction: str, family: str, dtype: str, linear: bool) -> float | None:
        times = [
            row.ms
            for row in self.rows
            if (row.direction, row.family, row.dtype) == (direction, family, dtype) and row.ms
        ]
        if not linear or not times:
            return min(times, default=None)
        maps = self._quickest(direction, LINEAR[family], dtype, False)
        return min(times) + maps if maps else None

    def to_json(self) -> dict[str, Any]:
        """Everything as plain types."""
        types = dict.fromkeys(row.dtype for row in self.rows if row.family == OURS)
        return {
            "device": self.device,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "tasks": self.workload.tasks,
            "queries": self.workload.queries,
            "maps": len(self.workload.shapes),
            "samples": self.workload.samples,
            "ours": self.dtype,
            "ratios": self.ratios(),
            "ratios_with_linear_maps": self.ratios(linear=True),
            "ratios_of_each_type": {dtype: self.ratios(dtype) for dtype in types},
            "scaling": self.scaling.to_json() if self.scaling else None,
            "floor": asdict(self.floor),
            "rows": [row.to_json(self.floor) for row in self.rows],
            "conventions": CONVENTIONS,
        }

    def table(self) -> str:
        """A table of all rows, and the ratios below it."""
        head = ["", "type", "pass", "ms", "extra MB", "GFLOP", "MB", "of floor", "error"]
        lines = [
            f"{self.workload.tasks} tasks, {self.workload.queries} queries, "
            f"{len(self.workload.shapes)} maps, on {self.device}; the core, no linear maps",
            markdown(head, [_cells(row, self.floor) for row in self.rows if row.ms]),
        ]
        if any(row.scaled_from for row in self.rows):
            lines.append("* measured on fewer queries and scaled; --slow runs it whole")
        lines += dict.fromkeys(f"{r.name} {r.dtype} {r.absent}" for r in self.rows if r.absent)
        for linear in (False, True):
            for direction, ratios in self.ratios(linear=linear).items():
                said = ", ".join(f"{name} {r:.1f}" for name, r in ratios.items() if r)
                scope = "with linear maps" if linear else "core"
                lines.append(f"Baseline / ours ({self.dtype}), {direction}, {scope}: {said}")
        return "\n".join([*lines, *([self.scaling.table()] if self.scaling else [])])


def bench(
    *,
    dataset: str = "nyud",
    tasks: int | None = None,
    size: tuple[int, int] | None = None,
    dtype: str | None = None,
    backward: bool = True,
    repeats: int = 5,
    device: str = "auto",
    grow: bool = False,
    quick: bool = False,
    slow: bool = False,
    quiet: bool = False,
) -> Comparison:
    """Measure every contender that this machine can run, on the same tensors.

    Ours are measured again after each of the others, so that a busy machine is unfair to nobody.

    Args:
        dataset: whose size and number of tasks are the default.
        tasks: how many exchange their maps.
        size: of the image; maps have a quarter of its sides.
        dtype: fp32, bf16 or fp16, our operator's in the ratios; fp32 on a CPU, else bf16.
        backward: also forward and backward together.
        repeats: of the quick ones.
        grow: also over numbers of tasks and image sizes.
        device: auto, cpu, cuda or mps.
        quick: an eighth of the sides, to see that everything runs.
        slow: run whole what is expected to take more than a minute.
        quiet: no progress bar.

    Raises:
        InputError: a name, type, size or device that cannot be used.
    """
    target = pick_device(device)
    height, width, tasks = extent(dataset, tasks, size, quick)
    dtype = dtype or DEFAULT_DTYPE.get(target.type, "fp32")
    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: known are {', '.join(DTYPES)}.")
    if repeats < 1:
        raise InputError(f"--repeats must be at least 1, not {repeats}.")
    types = [name for name in DTYPES if name in ("fp32", "bf16", dtype) or target.type == "cuda"]
    with numerics(target, deterministic=False):
        limits = stopwatch.floor(target, {name: DTYPES[name] for name in types}, quick)
        workload, found = make((height, width), tasks, target), contenders(target, types)
        rows: list[Row] = []
        bar = tqdm(total=len(found) * (1 + backward), disable=True if quiet else None)
        for with_backward in (False, True) if backward else (False,):
            trial = Trial(
                workload=workload, backward=with_backward, repeats=repeats, slow=slow, device=target
            )
            rows += compare(trial, found, bar)
        bar.close()
        grown = None
        if grow:
            found = [c for c in found if c.family == SDPA or (c.name != PLAIN and c.dtype == dtype)]
            grown = scaling(found, tasks, (height, width), target, slow, quiet)
    return Comparison(
        workload=workload,
        device=describe(target),
        dtype=dtype,
        floor=limits,
        rows=tuple(rows),
        scaling=grown,
    )


def compare(trial: Trial, found: Sequence[Contender], bar: tqdm) -> list[Row]:
    """A row for each contender; ours run again after every other, so that all see the same load."""
    ours, others = {}, []
    for contender in sorted(found, key=lambda contender: contender.family != OURS):
        bar.set_description(f"{contender.name} {contender.dtype}")
        row = trial.measure(contender)
        if contender.family == OURS:
            ours[contender] = row
        else:
            others.append(row)
        if row.timing and contender.family != OURS:
            for mine, so_far in ours.items():
                ours[mine] = trial.again(mine, so_far)
        bar.update()
    return [*others, *ours.values()]


def extent(
    dataset: str, tasks: int | None, size: tuple[int, int] | None, quick: bool
) -> tuple[int, int, int]:
    """Height and width of the image and the number of tasks: given, or those of a dataset."""
    record = lookup.load("datasets", dataset).DATASET
    height, width = size or record.size
    tasks = len(record.tasks) if tasks is None else tasks
    if min(height, width, tasks) < 1:
        raise InputError(f"--tasks {tasks} --size {height} {width}: all must be at least 1.")
    shrink = 8 if quick else 1
    return max(1, height // shrink), max(1, width // shrink), tasks


def describe(device: torch.device) -> str:
    """The device's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device} ({torch.get_num_threads()} threads)"


def _ratio(baseline: float | None, ours: float | None) -> float | None:
    return baseline / ours if baseline and ours else None


def _cells(row: Row, floor: Floor) -> list[str]:
    """A row of the table; a star marks what was scaled."""
    assert row.timing
    assert row.ms
    extra = None if row.scaled_from else row.timing.extra_bytes
    return [
        row.name,
        row.dtype,
        row.direction.replace("_", "+"),
        f"{row.ms:,.1f}{'*' if row.scaled_from else ''}",
        "-" if extra is None else f"{extra / 1e6:,.0f}",
        f"{row.flops / 1e9:,.1f}",
        f"{row.bytes / 1e6:,.0f}",
        f"{100 * floor.ms(row.bytes, row.flops, row.dtype) / row.ms:.1f} %",
        "-" if row.error is None else f"{row.error:.1e}",
    ]
