"""Tables that can be pasted into Markdown; scores of several seeds as mean and deviation."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtlcli.tasks._task import Task


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table with aligned columns: the first `left` to the left, the others right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths))
        )
        return "| " + " | ".join(padded) + " |"

    ends = ["-" if i < left else ":" for i in range(len(widths))]
    rule = "|" + "|".join("-" * (w + 1) + end for w, end in zip(widths, ends)) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])


def number(value: float, unit: str = "") -> str:
    """Four decimals for fractions and metres, two for degrees; a dash where there is no value."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.2f}" if unit == "°" else f"{value:.4f}"


def columns(tasks: Mapping[str, "Task"]) -> dict[str, tuple[str, str]]:
    """Task -> heading (name, metric and which way is better) and unit of its main score."""
    return {
        name: (f"{name} {task.metric} {'↑' if task.higher_is_better else '↓'}", task.unit)
        for name, task in tasks.items()
    }


def metrics_table(
    columns: Mapping[str, tuple[str, str]],
    rows: Mapping[str, Mapping[str, float]],
    gains: Mapping[str, float | None] | None = None,
) -> str:
    """One row per system, one column per task, and the gain if there is one.

    Args:
        columns: task -> (heading, unit).
        rows: name of the system -> {task: main score}.
        gains: name of the system -> Delta%.
    """
    gains = gains or {}
    gained = any(value is not None for value in gains.values())
    head = ["", *(heading for heading, _ in columns.values()), *(["Δ% ↑"] if gained else [])]
    body = []
    for name, scores in rows.items():
        cells = [number(scores.get(task, math.nan), unit) for task, (_, unit) in columns.items()]
        value = gains.get(name)
        gain = ["-" if value is None else f"{value:+.2f}"] if gained else []
        body.append([name, *cells, *gain])
    return markdown(head, body)


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
