"""Which differences between the cells of an experiment are more than its seeds' noise."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from mtlcli import tasks as known_tasks
from mtlcli.runs.table import number

CONFIDENCE = 0.95
BySeed = Mapping[int, float]  # seed -> score
Interval = Callable[[BySeed, BySeed], tuple[float, float]]


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


def welch(one: BySeed, other: BySeed) -> tuple[float, float]:
    """Confidence interval of the difference of two means (Biometrika 34, 1947): all runs are
    independent, deviations differ. (nan, nan) with less than two values.
    """
    left, right = list(one.values()), list(other.values())
    if min(len(left), len(right)) < 2:
        return (np.nan, np.nan)
    if np.ptp(left) == np.ptp(right) == 0:
        return (left[0] - right[0],) * 2
    found = stats.ttest_ind(left, right, equal_var=False).confidence_interval(CONFIDENCE)
    return float(found.low), float(found.high)


def paired(one: BySeed, other: BySeed) -> tuple[float, float]:
    """The same of the differences between runs of one seed, which saw the same pictures in the same
    order and, where their networks are alike, began with the same weights (Student's t).
    """
    apart = [one[seed] - other[seed] for seed in one if seed in other]
    if len(apart) < 2:
        return (np.nan, np.nan)
    if np.ptp(apart) == 0:
        return (apart[0],) * 2
    found = stats.ttest_1samp(apart, 0).confidence_interval(CONFIDENCE)
    return float(found.low), float(found.high)


def differences(
    runs: Sequence[Mapping[str, Any]], reference: str, interval: Interval = welch
) -> Iterator[Difference]:
    """Every task of every other cell against the reference.

    Args:
        runs: with `cell`, `seed` and `main` (task -> score), as a record of results/ holds them.
        reference: a cell of them.
        interval: `welch` or `paired`, from which the mean is taken, too.
    """
    scores: dict[str, dict[str, dict[int, float]]] = {}
    for run in runs:
        for task, score in run["main"].items():
            of_task = scores.setdefault(run["cell"], {}).setdefault(task, {})
            of_task[run["seed"]] = score
    base = scores[reference]
    for cell, of_tasks in scores.items():
        for name, task in known_tasks.named(of_tasks).items():
            if cell == reference:
                continue
            low, high = interval(of_tasks[name], base[name])
            mean = (low + high) / 2
            better = (mean > 0) == task.higher_is_better
            yield Difference(cell=cell, task=name, mean=mean, low=low, high=high, is_better=better)


def tell_apart(record: Mapping[str, Any]) -> str:
    """Two lines for every reference: what is better, what is worse, and how much is neither, of all
    runs and of pairs with one seed; nothing where there is one seed only.
    """
    cells = {run["cell"] for run in record["runs"]}
    lines = []
    for reference in filter(cells.__contains__, record["references"]):
        for how, interval in (("", welch), (", seed by seed", paired)):
            found = list(differences(record["runs"], reference, interval))
            known = [difference for difference in found if not np.isnan(difference.low)]
            if known:
                lines.append(
                    f"Against {reference}{how}, {CONFIDENCE:.0%} intervals of {len(known)} "
                    f"differences (about one in twenty leaves out zero by chance). {sort(known)}"
                )
    return "\n".join(lines)


def sort(found: Sequence[Difference]) -> str:
    """What is better, what is worse, and how much is neither."""
    told = [difference for difference in found if difference.is_told]
    kinds = (
        ("Better", [difference for difference in told if difference.is_better]),
        ("Worse", [difference for difference in told if not difference.is_better]),
    )
    parts = [f"{kind}: {'; '.join(map(str, some))}." for kind, some in kinds if some]
    rest = f"The other {len(found) - len(told)}" if told else f"All {len(found)}"
    return " ".join([*parts, f"{rest} cannot be told apart."])
