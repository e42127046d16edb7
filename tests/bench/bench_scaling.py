"""How attention's time grows with tasks and with pixels, and where the two kinds of it tie.

    python tests/bench/bench_scaling.py [--tasks 4] [--size 425 560] [--json]

Global attention is quadratic in both. Ours is linear in pixels; each task also brings maps that
all queries read. Forward passes only, 2 to 8 tasks and images of up to `--size`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from mtlcli.ops.devices import numerics, pick_device
from mtlcli.runs.table import markdown
from mtlcli.scoring.contenders import OURS, PLAIN, SDPA, Contender, contenders, make
from mtlcli.scoring.trial import Row, Trial

TASKS = range(2, 9)
SHARES = (0.25, 0.35, 0.5, 0.7, 1.0)  # of the image's sides
LARGER = 3
REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class Point:
    """Forward times for one number of tasks and size."""

    tasks: int
    size: tuple[int, int]
    queries: int
    ms: Mapping[str, float]  # contender -> milliseconds


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Times over tasks at one size, and over sizes with one number of tasks."""

    ours: str
    over: Mapping[str, tuple[Point, ...]]  # "tasks" and "size"

    def crossings(self) -> dict[str, float]:
        """Queries from which ours is the quicker one as images grow: a N = b N^2.

        a and b are medians over the larger images; at small ones other costs prevail.
        """
        points = self.over["size"][-LARGER:]
        each = median(p.ms[self.ours] / p.queries for p in points)
        names = dict.fromkeys(name for p in points for name in p.ms if name != self.ours)
        return {
            name: each / median(p.ms[name] / p.queries**2 for p in points if name in p.ms)
            for name in names
        }

    def to_json(self) -> dict[str, Any]:
        """As plain types."""
        over = {name: [asdict(point) for point in points] for name, points in self.over.items()}
        return {"ours": self.ours, **over, "crossing_queries": self.crossings()}

    def table(self) -> str:
        """A row per point, and the crossings below."""
        points = [point for points in self.over.values() for point in points]
        names = list(dict.fromkeys(name for point in points for name in point.ms))
        head = ["tasks", "image", "queries", *(f"{name}, ms" for name in names)]
        rows = [
            [
                str(p.tasks),
                "x".join(map(str, p.size)),
                str(p.queries),
                *(_cell(p, n) for n in names),
            ]
            for p in points
        ]
        lines = [markdown(head, rows)]
        lines += [
            f"{self.over['size'][-1].tasks} tasks: {self.ours} is quicker than {name} from "
            f"{count:,.0f} queries on"
            for name, count in self.crossings().items()
        ]
        return "\n".join(lines)


def scaling(
    found: Sequence[Contender],
    tasks: int,
    size: tuple[int, int],
    device: torch.device,
) -> Scaling:
    """Measure our operator and global attention forward, for 2 to 8 tasks and for smaller images.

    Args:
        found: the contenders; ours is the first of ours.
        tasks: when the size varies.
        size: (H, W) when the number of tasks varies, and the largest.
        device: where.
    """
    sizes = [tuple(max(4, round(side * share)) for side in size) for share in SHARES]
    plan = [("tasks", count, size) for count in TASKS]
    plan += [("size", tasks, (height, width)) for height, width in sizes]
    over: dict[str, list[Point]] = {"tasks": [], "size": []}
    for name, count, (height, width) in tqdm(plan, desc="scaling", disable=None):
        over[name].append(_point(found, count, (height, width), device))
    ours = next(c for c in found if c.family == OURS)
    return Scaling(ours=_label(ours), over={name: tuple(points) for name, points in over.items()})


def _point(
    found: Sequence[Contender], tasks: int, size: tuple[int, int], device: torch.device
) -> Point:
    workload = make(size, tasks, device)
    trial = Trial(workload=workload, backward=False, repeats=REPEATS, device=device)
    ours = next(contender for contender in found if contender.family == OURS)
    rows = [trial.measure(c) for c in (ours, *(c for c in found if c.family == SDPA))]
    timed = [row for row in rows if row.ms]
    quickest: dict[str, Row] = {}
    for row in sorted(timed, key=lambda row: row.ms or 0, reverse=True):
        quickest["ours" if row.family == OURS else row.dtype] = row
    return Point(
        tasks=tasks,
        size=size,
        queries=workload.queries,
        ms={_label(row): row.ms for row in quickest.values() if row.ms},
    )


def _label(row: Row | Contender) -> str:
    return f"{'SDPA' if row.family == SDPA else row.name} {row.dtype}"


def _cell(point: Point, name: str) -> str:
    return f"{point.ms[name]:,.1f}" if name in point.ms else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--size", type=int, nargs=2, default=(425, 560))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    device = pick_device(options.device)
    dtype = "bf16" if device.type == "cuda" else "fp32"
    found = [c for c in contenders(device, ["fp32", "bf16"])
             if c.family == SDPA or (c.name != PLAIN and c.dtype == dtype)]  # fmt: skip
    with numerics(device, deterministic=False):
        grown = scaling(found, options.tasks, tuple(options.size), device)
    print(json.dumps(grown.to_json(), indent=1) if options.json else grown.table())


if __name__ == "__main__":
    main()
