"""Notices from the log alone when a task stops learning, as with too large a gradient scale.

With lambda = 200 the paper's network ends at 0.02 mIoU, 1.5 m and 45 degrees (arXiv 2508.04422,
Table 4): the losses go back to where they were, and most sampling points lie outside their maps.
"""

from collections.abc import Mapping
from statistics import median
from typing import Any

WINDOW = 20  # lines of the log whose median is compared
UNLEARNT = 0.98  # of the first window's loss: no better than at the start
RISEN = 1.5  # times the lowest window's loss
LOST = 0.8  # of what had been learnt, gone again
OUTSIDE = 0.9  # share of sampling points
FALLEN = 2  # times worse than the best held-out metric


class CollapseWatch:
    """Reads line by line, and says of each task and attention at most once what is wrong.

    It depends on the lines alone, so it is the same after a run was resumed.
    """

    def __init__(self, remedy: str, higher_is_better: Mapping[str, bool]) -> None:
        """
        Args:
            remedy: what to do about it, with the values that the run has.
            higher_is_better: task -> direction of its held-out metric.
        """
        self.remedy, self.higher_is_better = remedy, higher_is_better
        self.best: dict[str, float] = {}
        self.said: set[str] = set()
        self.losses: dict[str, list[float]] = {}
        self.lowest: dict[str, float] = {}

    def read(self, line: Mapping[str, Any]) -> list[str]:
        """What is new in a line of the log, as sentences."""
        found = [(task, self._of_loss(task, value)) for task, value in line["loss"].items()]
        found += [
            (name, outside_maps(name, spread["outside"]))
            for name, spread in line.get("offsets", {}).items()
        ]
        found += [
            (f"{task} held out", self._of_metric(task, value))
            for task, value in line.get("holdout", {}).items()
        ]
        news = [(name, what) for name, what in found if what and name not in self.said]
        self.said.update(name for name, _ in news)
        at = f"at iteration {line['iteration']}"
        return [f"{what} {at}: this looks like a collapse. {self.remedy}" for _, what in news]

    def _of_loss(self, task: str, value: float) -> str | None:
        history = self.losses.setdefault(task, [])
        history.append(value)
        if len(history) < 2 * WINDOW:
            return None
        first, now = median(history[:WINDOW]), median(history[-WINDOW:])
        self.lowest[task] = min(now, self.lowest.get(task, now))
        lowest = self.lowest[task]
        if now > RISEN * lowest and first - now < (1 - LOST) * (first - lowest):
            return f"The loss of {task} fell to {lowest:.3g} and is back at {now:.3g}"
        if len(history) == 10 * WINDOW and now > UNLEARNT * first:
            return f"The loss of {task} has not fallen ({first:.3g} at the start, {now:.3g})"
        return None

    def _of_metric(self, task: str, value: float) -> str | None:
        higher = self.higher_is_better[task]
        best = (max if higher else min)(value, self.best.get(task, value))
        self.best[task] = best
        if (FALLEN * value < best) if higher else (value > FALLEN * best):
            return f"The held-out metric of {task} went from {best:.3g} to {value:.3g}"
        return None


def outside_maps(name: str, shares: list[float]) -> str | None:
    """A complaint when an attention looks past the edge nearly everywhere."""
    if min(shares) < OUTSIDE:
        return None
    return f"{min(shares):.0%} of the points that {name} samples lie outside the maps"
