"""Watch over the offsets and over tasks that stop learning, as with a large gradient scale.

With lambda = 200 the paper's network ends at 0.02 mIoU, 1.5 m and 45 degrees (arXiv 2508.04422,
Table 4): the losses go back to where they were, and most sampling points lie outside their maps.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from torch import nn

from mtlcli.files import has_value
from mtlcli.models.deformable_attention import DeformableAttention

WINDOW = 20  # lines of the log whose median is compared; a tenth of all once that is more
RISEN = 1.5  # times the lowest window's loss
LOST = 0.8  # of what had been learnt, gone again
CERTAIN = 4  # standard errors by which a loss must have risen, for WINDOW lines
EARLY = 10 * WINDOW  # lines after which a loss should have fallen
UNLEARNT = 0.98  # of the first window's loss: no better than at the start
STILL = 0.01  # fall from the first to the last third of the lines that is none
VISIBLE = 0.05  # the least fall that the noise must let be seen, else nothing is said
BLURS = 3  # standard errors that noise may hide
OUTSIDE = 0.9  # share of sampling points
FALLEN = 2  # times worse than the best held-out metric


class OffsetWatch:
    """Looks at the passes it is asked to."""

    def __init__(self, network: nn.Module) -> None:
        self.attentions = {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, DeformableAttention)
        }

    def look(self, wanted: bool) -> None:
        """Whether the next pass is looked at."""
        for attention in self.attentions.values():
            attention.watched = wanted

    def read(self) -> dict[str, dict[str, list[float]]]:
        """Of each attention in the last pass looked at: mean displacement in `pixels` and share of
        sampling points `outside` the map, per resolution, finest first.
        """
        found = {}
        for name, attention in self.attentions.items():
            if attention.seen is not None:
                pixels, outside = (round_all(values.tolist()) for values in attention.seen)
                found[name] = {"pixels": pixels, "outside": outside}
                attention.seen = None
        return found


def round_all(values: list[float]) -> list[float]:
    """Four digits are enough to look at."""
    return [float(f"{value:.4g}") for value in values]


@dataclass(frozen=True)
class Level:
    """Where the values of a window lie."""

    median: float
    error: float  # standard error of the median, if the values are normal but for outliers


def level(values: Sequence[float]) -> Level:
    """The median and, from the median absolute deviation, how far noise moves it."""
    middle = median(values)
    deviation = 1.4826 * median(abs(value - middle) for value in values)
    return Level(middle, 1.2533 * deviation / len(values) ** 0.5)


def is_back(first: Level, lowest: Level, now: Level) -> bool:
    """Whether a loss that had fallen is nearly where it began, by more than the noise."""
    risen, learnt = now.median - lowest.median, first.median - lowest.median
    certain = risen > CERTAIN * (now.error + lowest.error)
    return certain and now.median > RISEN * lowest.median and risen > LOST * learnt


def is_still(history: Sequence[float]) -> bool:
    """Whether a loss stays where it began, although a fall would be seen through the noise."""
    third = len(history) // 3
    first, last = level(history[:third]), level(history[-third:])
    if first.median <= 0:  # nothing to fall from
        return False
    fall = 1 - last.median / first.median
    blur = BLURS * (first.error**2 + last.error**2) ** 0.5 / first.median
    began = median(history[:WINDOW])
    return fall < STILL and fall + blur < VISIBLE and last.median > UNLEARNT * began


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
        self.lowest: dict[str, Level] = {}
        self.risen: dict[str, int] = {}  # task -> lines for which its loss has been up again

    def read(self, line: Mapping[str, Any]) -> list[str]:
        """What is new in a line of the log, as sentences; a task without a loss is passed over."""
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
        """A loss of 0 says nothing: a batch without labels had it in logs of former versions, and
        what is perfectly learnt has not collapsed.
        """
        history = self.losses.setdefault(task, [])
        if not value or not math.isfinite(value):
            return None
        history.append(value)
        if len(history) < 2 * WINDOW:
            return None
        length = max(WINDOW, len(history) // 10)
        first, now = level(history[:length]), level(history[-length:])
        lowest = min(now, self.lowest.get(task, now), key=lambda window: window.median)
        self.lowest[task] = lowest
        self.risen[task] = self.risen.get(task, 0) + 1 if is_back(first, lowest, now) else 0
        if self.risen[task] == WINDOW:
            return f"The loss of {task} fell to {lowest.median:.3g} and is back at {now.median:.3g}"
        if len(history) >= EARLY and len(history) % WINDOW == 0 and is_still(history):
            return (
                f"The loss of {task} has not fallen ({first.median:.3g} at the start, "
                f"{now.median:.3g})"
            )
        return None

    def _of_metric(self, task: str, value: float | None) -> str | None:
        if value is None or not math.isfinite(value):  # no held-out picture has labels for it
            return None
        higher = self.higher_is_better[task]
        best = (max if higher else min)(value, self.best.get(task, value))
        self.best[task] = best
        if (FALLEN * value < best) if higher else (value > FALLEN * best):
            return f"The held-out metric of {task} went from {best:.3g} to {value:.3g}"
        return None


def outside_maps(name: str, shares: list[float]) -> str | None:
    """A complaint when an attention looks past the edge nearly everywhere."""
    known = [share for share in shares if has_value(share)]
    if not known or min(known) < OUTSIDE:
        return None
    return f"{min(known):.0%} of the points that {name} samples lie outside the maps"
