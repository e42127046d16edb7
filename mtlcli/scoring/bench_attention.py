"""`mtl bench attention`: deformable attention against what it replaces, in one run (Table 6)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from mtlcli import datasets
from mtlcli.errors import InputError
from mtlcli.ops.devices import numerics, pick_device
from mtlcli.ops.standby import strict
from mtlcli.runs.table import markdown
from mtlcli.scoring.contenders import (
    DTYPES,
    GRID,
    LINEAR,
    OURS,
    SDPA,
    Contender,
    Workload,
    contenders,
    make,
)
from mtlcli.scoring.trial import Row, Trial

Ratios = dict[str, dict[str, float | None]]
BASELINES = {  # name -> family and type
    "vs_sdpa_fp32": (SDPA, "fp32"),
    "vs_sdpa_bf16": (SDPA, "bf16"),
    "vs_grid_sample": (GRID, "fp32"),
}
CONVENTIONS = {
    "scope": "softmax, sampling or scores, and weighted sum; no linear maps",
    "ms": "median wall-clock time of the runs",
    "flops": "2 per multiply-add, 3 per softmax element, 16 per point; backward 2 or (SDPA) 2.5 "
    "times the forward pass's; a ratio of them is no speed-up",
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
    rows: tuple[Row, ...]

    def ratios(self, dtype: str | None = None, linear: bool = False) -> Ratios:
        """direction -> baseline -> its time over that of our quickest operator of this type.

        linear: with the linear maps before and after, measured apart and added.
        """
        found: Ratios = {}
        for direction in dict.fromkeys(row.direction for row in self.rows):
            ours = self._quickest(direction, OURS, dtype or self.dtype, linear)
            found[direction] = {}
            for name, (family, of_type) in BASELINES.items():
                baseline = self._quickest(direction, family, of_type, linear)
                found[direction][name] = baseline / ours if baseline and ours else None
        return found

    def _quickest(self, direction: str, family: str, dtype: str, linear: bool) -> float | None:
        wanted = direction, family, dtype
        rows = [row for row in self.rows if (row.direction, row.family, row.dtype) == wanted]
        quickest = min((row.ms for row in rows if row.ms), default=None)
        if not linear or quickest is None:
            return quickest
        maps = self._quickest(direction, LINEAR[family], dtype, False)
        return quickest + maps if maps else None

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
            "rows": [row.to_json() for row in self.rows],
            "conventions": CONVENTIONS,
        }

    def table(self) -> str:
        """A table of all rows, and the ratios below it."""
        head = ["", "type", "pass", "ms", "extra MB", "GFLOP", "error"]
        lines = [
            f"{self.workload.tasks} tasks, {self.workload.queries} queries, "
            f"{len(self.workload.shapes)} maps, on {self.device}; the core, no linear maps",
            markdown(head, [_cells(row) for row in self.rows if row.ms]),
        ]
        lines += dict.fromkeys(f"{r.name} {r.dtype} {r.absent}" for r in self.rows if r.absent)
        for linear in (False, True):
            for direction, ratios in self.ratios(linear=linear).items():
                said = ", ".join(f"{name} {r:.1f}" for name, r in ratios.items() if r)
                scope = "with linear maps" if linear else "core"
                lines.append(f"Baseline / ours ({self.dtype}), {direction}, {scope}: {said}")
        return "\n".join(lines)


def bench(
    *,
    dataset: str = "nyud",
    tasks: int | None = None,
    size: tuple[int, int] | None = None,
    dtype: str | None = None,
    backward: bool = True,
    repeats: int = 5,
    device: str = "auto",
    quick: bool = False,
    quiet: bool = False,
) -> Comparison:
    """Measure every contender that this machine can run, on the same tensors.

    Ours are measured again after each of the others, so that a busy machine is unfair to nobody.

    Args:
        dataset: whose size and number of tasks are the default.
        tasks: how many exchange their maps.
        size: of the image; maps have a quarter of its sides.
        dtype: fp32, bf16 or fp16, our operator's in the ratios; bf16 on CUDA, else fp32.
        backward: also forward and backward together.
        repeats: of the quick ones.
        device: auto, cpu, cuda or mps.
        quick: an eighth of the sides, to see that everything runs.
        quiet: no progress bar.

    Raises:
        InputError: a name, type, size or device that cannot be used.
    """
    target = pick_device(device)
    height, width, tasks = extent(dataset, tasks, size, quick)
    dtype = dtype or ("bf16" if target.type == "cuda" else "fp32")
    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: known are {', '.join(DTYPES)}.")
    if repeats < 1:
        raise InputError(f"--repeats must be at least 1, not {repeats}.")
    types = [name for name in DTYPES if name in ("fp32", "bf16", dtype) or target.type == "cuda"]
    with numerics(target, deterministic=False), strict():
        workload, found = make((height, width), tasks, target), contenders(target, types)
        rows: list[Row] = []
        with tqdm(total=len(found) * (1 + backward), disable=True if quiet else None) as bar:
            for with_backward in (False, True)[: 1 + backward]:
                trial = Trial(
                    workload=workload, backward=with_backward, repeats=repeats, device=target
                )
                rows += compare(trial, found, bar)
    return Comparison(workload=workload, device=describe(target), dtype=dtype, rows=tuple(rows))


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
            if row.timing:
                ours = {mine: trial.again(mine, so_far) for mine, so_far in ours.items()}
        bar.update()
    return [*others, *ours.values()]


def extent(
    dataset: str, tasks: int | None, size: tuple[int, int] | None, quick: bool
) -> tuple[int, int, int]:
    """Height and width of the image and the number of tasks: given, or those of a dataset."""
    record = datasets.find(dataset)
    height, width = size or record.size
    tasks = len(record.tasks) if tasks is None else tasks
    if min(height, width, tasks) < 1:
        raise InputError(f"--tasks {tasks} --size {height} {width}: all must be at least 1.")
    shrink = 8 if quick else 1
    return max(1, height // shrink), max(1, width // shrink), tasks


def describe(device: torch.device) -> str:
    """Name a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device} ({torch.get_num_threads()} threads)"


def _cells(row: Row) -> list[str]:
    """A row of the table."""
    assert row.timing
    extra = row.timing.extra_bytes
    return [
        row.name,
        row.dtype,
        row.direction.replace("_", "+"),
        f"{row.ms:,.1f}",
        "-" if extra is None else f"{extra / 1e6:,.0f}",
        f"{row.flops / 1e9:,.1f}",
        "-" if row.error is None else f"{row.error:.1e}",
    ]
