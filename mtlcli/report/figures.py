"""The charts of the page: precision and recall, and training curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtlcli.report.chart import Line, chart
from mtlcli.report.curves import Curves, collect, is_logarithmic
from mtlcli.report.markup import Html
from mtlcli.report.page import charts

LEVELS = (0.2, 0.4, 0.6, 0.8)  # of F, drawn behind precision and recall
ATTENTION = ("offsets (pixels)", "points outside")  # panels about it
Log = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Precision and recall of a run, per threshold."""

    name: str
    metric: str  # of its task
    turn: int  # of its colour
    recall: Sequence[float]
    precision: Sequence[float]
    best: int  # place of the threshold that its score is of


def precision_recall(title: str, curves: Sequence[Curve], *, equal_f: bool) -> Html:
    """Precision over recall, a line per run, the point of its score marked.

    Args:
        title: of the chart.
        curves: of the runs.
        equal_f: draw the lines on which F = 2 P R / (P + R) is the same.
    """
    lines = [ratios(curve) for curve in curves]
    levels = [level(f) for f in LEVELS] if equal_f else []
    return chart(title, lines, across="recall (up: precision)", x=(0, 1), y=(0, 1), levels=levels)


def ratios(curve: Curve) -> Line:
    """Its line, without thresholds that nothing is found at: there precision is a convention."""
    pairs = list(zip(curve.recall, curve.precision))
    found = [pair for pair in pairs if pair[0] > 0]
    return Line(
        name=curve.name,
        x=[recall for recall, _ in found],
        y=[precision for _, precision in found],
        mark=pairs[curve.best],
        turn=curve.turn,
    )


def level(f: float) -> Line:
    """Recall and precision whose F is f: P = f R / (2 R - f)."""
    recalls = [f / (2 - f) + (1 - f / (2 - f)) * i / 50 for i in range(51)]
    return Line(name=f"F {f:g}", x=recalls, y=[f * r / (2 * r - f) for r in recalls])


def training(log: Log) -> Html:
    """Losses, learning rate and held-out metrics of one run."""
    panels = collect(log).items()
    return charts(panel(title, curves) for title, curves in panels if title not in ATTENTION)


def panel(title: str, curves: Curves) -> Html:
    """One chart of a run."""
    lines = [Line(name=name, x=x, y=y) for name, (x, y) in curves.items()]
    return chart(title, lines, across="iteration", logarithmic=is_logarithmic(title, curves))


def total_losses(logs: Mapping[str, Log]) -> Html:
    """The weighted sum of the losses, a line per run."""
    lines = []
    for name, log in logs.items():
        points = [(p["iteration"], p["total"]) for p in log if "total" in p]
        lines.append(Line(name=name, x=[p[0] for p in points], y=[p[1] for p in points]))
    above = all(value > 0 for line in lines for value in line.y)
    return chart("total loss", lines, across="iteration", logarithmic=above)
