"""Which differences between the cells of an experiment are more than its seeds' noise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from mtlcli import tasks as known_tasks
from mtlcli.runs.table import number

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Of a cell's mean score of one task from the reference's, in the task's unit."""

    cell: str
    task: str
    mean: float
    low: float  # ends of the confidence interval; both nan: too few seeds to say
    high: float
    is_better: bool  # in the direction of the metric

    @property
    def is_told(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        unit = known_tasks.named([self.task])[self.task].unit
        mean, low, high = (number(value, unit) for value in (self.mean, self.low, self.high))
        return f"{self.cell}, {self.task} {mean} ({low} to {high})"


def differences(runs: Sequence[Mapping[str, Any]], reference: str) -> Iterator[Difference]:
    """Every task of every other cell against the reference.

    The intervals are Welch's (Biometrika 34, 1947): seeds are independent, deviations differ.

    Args:
        runs: with `cell` and `main` (task -> score), as a record of results/ holds them.
        reference: a cell of them.
    """
    scores: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        for task, score in run["main"].items():
            scores.setdefault(run["cell"], {}).setdefault(task, []).append(score)
    base = scores[reference]
    for cell, of_tasks in scores.items():
        for name, task in known_tasks.named(of_tasks).items():
            if cell == reference:
                continue
            mean = float(np.mean(of_tasks[name]) - np.mean(base[name]))
            low, high = interval(of_tasks[name], base[name])
            better = (mean > 0) == task.higher_is_better
            yield Difference(cell=cell, task=name, mean=mean, low=low, high=high, is_better=better)


def interval(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Confidence interval of the difference of two means; (nan, nan) with less than two values."""
    if min(len(one), len(other)) < 2:
        return (np.nan, np.nan)
    if np.ptp(one) == np.ptp(other) == 0:
        return (one[0] - other[0],) * 2
    found = stats.ttest_ind(one, other, equal_var=False).confidence_interval(CONFIDENCE)
    return float(found.low), float(found.high)


def tell_apart(record: Mapping[str, Any]) -> str:
    """A line for every reference: what is better, what is worse, and how much is neither; nothing
    where there is one seed only.
    """
    cells = {run["cell"] for run in record["runs"]}
    lines = []
    for reference in filter(cells.__contains__, record["references"]):
        found = [d for d in differences(record["runs"], reference) if not np.isnan(d.low)]
        if not found:
            continue
        told = [d for d in found if d.is_told]
        parts = [
            f"{kind}: {'; '.join(map(str, some))}."
            for kind, some in (
                ("Better", [d for d in told if d.is_better]),
                ("Worse", [d for d in told if not d.is_better]),
            )
            if some
        ]
        rest = f"The other {len(found) - len(told)}" if told else f"All {len(found)}"
        parts.append(f"{rest} cannot be told apart.")
        lines.append(
            f"Against {reference}, {CONFIDENCE:.0%} intervals of {len(found)} differences (about "
            f"one in twenty leaves out zero by chance). {' '.join(parts)}"
        )
    return "\n".join(lines)
