"""The charts of the page: precision and recall, training curves, and where attention looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from mtlcli.report.chart import Line, chart
from mtlcli.report.curves import Curves, collect
from mtlcli.report.markup import Html, tag
from mtlcli.report.page import charts, note, row, table

LEVELS = (0.2, 0.4, 0.6, 0.8)  # of F, drawn behind precision and recall
ATTENTION = ("offsets (pixels)", "points outside")  # panels about it
ENDS = 20  # "first" and "last" are means over one line of the log in so many
Log = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Precision and recall of a run, per threshold."""

    name: str
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


def attentions(log: Log) -> Html:
    """The offsets of each attention of one run."""
    return charts(panel(title, curves) for title, curves in collect(log).items()
                  if title in ATTENTION)  # fmt: skip


def panel(title: str, curves: Curves) -> Html:
    """One chart of a run."""
    lines = [Line(name=name, x=x, y=y) for name, (x, y) in curves.items()]
    above = all(v > 0 for line in lines for v in line.y)
    return chart(title, lines, across="iteration", logarithmic=above and title == "loss")


def total_losses(logs: Mapping[str, Log]) -> Html:
    """The weighted sum of the losses, a line per run."""
    lines = []
    for name, log in logs.items():
        points = [(p["iteration"], p["total"]) for p in log if "total" in p]
        lines.append(Line(name=name, x=[p[0] for p in points], y=[p[1] for p in points]))
    return chart("total loss", lines, across="iteration", logarithmic=True)


def offsets(logs: Mapping[str, Log], scales: Mapping[str, Any]) -> list[Html]:
    """What the deformable attentions of the runs do, in numbers and side by side.

    Args:
        logs: of the runs; those without deformable attention are left out.
        scales: run -> the gradient scale λ that it was trained with.
    """
    seen = {name: by_level(log) for name, log in logs.items()}
    if not any(seen.values()):
        return []
    rows = [
        row(name, [scale_of(scales.get(name)), f"1/{2**level}", *ends])
        for name, levels in seen.items()
        for level, ends in ((i, [*change(px, ".2f"), *change(out, ".1%")])
                            for i, (_, px, out) in enumerate(levels))
    ]  # fmt: skip
    head = ["Run", "λ", "Map", "Displacement px, first", "last", "Outside, first", "last"]
    caption = "Offsets: mean displacement of the sampled points and the share outside the map"
    how = (
        "λ is the gradient scale of the offsets. A displacement that stays where it began means "
        "offsets that do not learn; a share outside near 100 % means that they ran away. First "
        "and last: means over a twentieth of the log; all attentions of a network together."
    )
    together = [table(head, rows, caption=caption), note(how), charts(offset_charts(seen))]
    each = [part for name, log in logs.items() if len(log[-1:] and log[-1].get("offsets", {})) > 1
            for part in (tag("h3", f"{name}, each attention"), attentions(log))]  # fmt: skip
    return together + each


def scale_of(value: Any) -> str:
    """λ as printed."""
    return "-" if value is None else f"{value:g}"


Level = tuple[list[float], list[float], list[float]]  # iterations, pixels, share outside
EMPTY: Level = ([], [], [])


def by_level(log: Log) -> list[Level]:
    """For each resolution, finest first: means over the attentions that have it."""
    levels: list[Level] = []
    for line in log:
        spreads = line.get("offsets", {}).values()
        for i in range(max((len(s["pixels"]) for s in spreads), default=0)):
            if i == len(levels):
                levels.append(([], [], []))
            having = [s for s in spreads if i < len(s["pixels"])]
            values = (line["iteration"], *(fmean(s[k][i] for s in having)
                                           for k in ("pixels", "outside")))  # fmt: skip
            for column, value in zip(levels[i], values):
                column.append(value)
    return levels


def change(values: Sequence[float], form: str) -> tuple[str, str]:
    """Where a curve began and where it ended."""
    size = max(1, len(values) // ENDS)
    return format(fmean(values[:size]), form), format(fmean(values[-size:]), form)


def offset_charts(seen: Mapping[str, Sequence[Level]]) -> list[Html]:
    """Displacement and share outside on each map, a line per run."""
    drawn = []
    for level in range(max(map(len, seen.values()))):
        having = {n: v[level] if level < len(v) else EMPTY for n, v in seen.items()}
        for what, column in (("displacement, pixels", 1), ("share outside", 2)):
            lines = [Line(name=n, x=v[0], y=v[column]) for n, v in having.items()]
            drawn.append(chart(f"{what}, map 1/{2**level}", lines, across="iteration"))
    return drawn
