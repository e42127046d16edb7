"""Scores of several seeds: mean and standard deviation."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from mtlcli.runs.table import number

Scores = Mapping[str, float]


def mean_scores(runs: Sequence[Scores]) -> dict[str, float]:
    """Task -> mean over the runs; the tasks of the first run."""
    return {task: fmean(run[task] for run in runs) for task in runs[0]}


def spread(values: Sequence[float], unit: str = "") -> str:
    """`mean ± deviation` of a score; without the deviation if there is one value only.

    The deviation is that of a sample (n - 1).
    """
    known = [v for v in values if v is not None and math.isfinite(v)]
    if not known:
        return "-"
    mean = number(fmean(known), unit)
    return f"{mean} ± {number(stdev(known), unit)}" if len(known) > 1 else mean


def spread_gain(values: Sequence[float]) -> str:
    """The same of a gain, in percent with its sign."""
    if not values:
        return "-"
    mean = f"{fmean(values):+.2f}"
    return f"{mean} ± {stdev(values):.2f}" if len(values) > 1 else mean
