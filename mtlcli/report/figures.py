"""The charts of the page: precision and recall, training curves, and where attention looks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from mtlcli.report.chart import Html, Line, chart, tag
from mtlcli.report.page import breaking, charts, note, row, table

Log = Sequence[Mapping[str, Any]]
Curves = dict[str, tuple[list[int], list[float]]]
LEVELS = (0.2, 0.4, 0.6, 0.8)  # of F, drawn behind precision and recall
ATTENTION = ("offsets (pixels)", "points outside")  # panels about it
TOLD_APART = 7  # lines of a chart, each of its own colour
ENDS = 20  # "first" and "last" are means over one line of the log in so many
HOW = (
    "λ is the gradient scale of the offsets. A displacement that stays where it began means "
    "offsets that do not learn; a share outside near 100 % means that they ran away. First and "
    "last: means over a twentieth of the log; all attentions of a network together."
)
Level = tuple[list[float], list[float], list[float]]  # iterations, pixels, share outside
EMPTY: Level = ([], [], [])


def is_logarithmic(title: str, curves: Curves) -> bool:
    """Whether a panel shows ratios: that of the losses does, where all are above 0."""
    return title == "loss" and all(v > 0 for _, values in curves.values() for v in values)


def collect(lines: Log) -> dict[str, Curves]:
    """Panel -> curve -> (iterations, values)."""
    panels: dict[str, Curves] = {
        "loss": {},
        "learning rate": {},
        "offsets (pixels)": {},
        "points outside": {},
        "held-out metric": {},
    }

    def add(panel: str, curve: str, iteration: int, value: float) -> None:
        iterations, values = panels[panel].setdefault(curve, ([], []))
        iterations.append(iteration)
        values.append(value)

    for line in lines:
        at = line["iteration"]
        for task, value in line.get("loss", {}).items():
            add("loss", task, at, value)
        if "lr" in line:
            add("learning rate", "lr", at, line["lr"])
        for name, spread in line.get("offsets", {}).items():
            for level, (pixels, outside) in enumerate(zip(spread["pixels"], spread["outside"])):
                add("offsets (pixels)", f"{short(name)} /{2**level}", at, pixels)
                add("points outside", f"{short(name)} /{2**level}", at, outside)
        for task, value in line.get("holdout", {}).items():
            add("held-out metric", task, at, value)
    return panels


def short(path: str) -> str:
    """A module's path in words: decoder.interaction.steps.0.attention -> step 1."""
    parts = path.removesuffix(".attention").split(".")[-2:]
    if parts[-1].isdigit():
        return f"{parts[0].removesuffix('s')} {int(parts[-1]) + 1}"
    return ".".join(parts)


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
    return chart(title, lines, across="recall", up="precision", x=(0, 1), y=(0, 1), levels=levels)


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
    """Losses, learning rate and held-out metrics of one run, of these one chart for each task, as
    their units differ.
    """
    panels = collect(log)
    panels |= {f"held-out metric, {n}": {n: c} for n, c in panels.pop("held-out metric").items()}
    return charts(
        panel(title, curves) for title, curves in panels.items() if title not in ATTENTION
    )


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


def offsets(logs: Mapping[str, Log], scales: Mapping[str, Any]) -> list[Html]:
    """What the deformable attentions of the runs do, in numbers and side by side.

    Args:
        logs: of the runs; those without deformable attention are left out.
        scales: run -> the gradient scale λ that it was trained with.
    """
    seen = {name: by_level(log) for name, log in logs.items()}
    if not any(seen.values()):
        return []
    rows = [line for n, levels in seen.items() for line in level_rows(n, levels, scales.get(n))]
    head = ["Run", "λ", "Map", "Displacement px, first", "last", "Outside, first", "last"]
    caption = "Offsets: mean displacement of the sampled points and the share outside the map"
    compared = [table(head, rows, caption=caption), note(HOW), charts(offset_charts(seen))]
    several = [name for name, log in logs.items() if log and len(log[-1].get("offsets", {})) > 1]
    return compared + [part for name in several for part in single(name, logs[name])]


def level_rows(name: str, levels: Sequence[Level], scale: Any) -> Iterator[Html]:
    """A line for each resolution of a run."""
    printed = "-" if scale is None else f"{scale:g}"
    for level, (_, pixels, outside) in enumerate(levels):
        ends = *change(pixels, ".2f"), *change(outside, ".1%")
        yield row(breaking(name), [printed, f"1/{2**level}", *ends])


def single(name: str, log: Log) -> list[Html]:
    """Each attention of a run that has several, a chart for each resolution and, where they are
    many, for as many as can be told apart.
    """
    panels = [
        part
        for title, curves in collect(log).items()
        if title in ATTENTION
        for part in legible(title, curves)
    ]
    return [tag("h3", f"{name}, each attention"), charts(panels)]


def legible(title: str, curves: Curves) -> Iterator[Html]:
    """The curves `NAME /LEVEL` of a panel in charts of one level and at most `TOLD_APART` lines."""
    levels: dict[str, Curves] = {}
    for name, curve in curves.items():
        attention, level = name.rsplit(" /", 1)
        levels.setdefault(level, {})[attention] = curve
    for level, lines in levels.items():
        parts = -(-len(lines) // TOLD_APART)
        size, listed = -(-len(lines) // parts), list(lines.items())
        for i in range(parts):
            part = f", {i + 1} of {parts}" if parts > 1 else ""
            yield panel(f"{title}, map 1/{level}{part}", dict(listed[i * size : (i + 1) * size]))


def by_level(log: Log) -> list[Level]:
    """For each resolution, finest first: means over the attentions that have it."""
    levels: list[Level] = []
    for line in log:
        spreads = line.get("offsets", {}).values()
        for i in range(max((len(s["pixels"]) for s in spreads), default=0)):
            if i == len(levels):
                levels.append(([], [], []))
            having = [s for s in spreads if i < len(s["pixels"])]
            iterations, pixels, outside = levels[i]
            iterations.append(line["iteration"])
            pixels.append(fmean(s["pixels"][i] for s in having))
            outside.append(fmean(s["outside"][i] for s in having))
    return levels


def change(values: Sequence[float], form: str) -> tuple[str, str]:
    """Where a curve began and where it ended."""
    size = max(1, len(values) // ENDS)
    return format(fmean(values[:size]), form), format(fmean(values[-size:]), form)


def offset_charts(seen: Mapping[str, Sequence[Level]]) -> list[Html]:
    """Displacement and share outside on each map, a line per run; of a single run all maps in one
    chart.
    """
    quantities = (("displacement, pixels", 1), ("share outside", 2))
    if len(seen) == 1:
        (levels,) = seen.values()
        return [
            offset_chart(what, {f"map 1/{2**i}": v for i, v in enumerate(levels)}, column)
            for what, column in quantities
        ]
    drawn = []
    for level in range(max(map(len, seen.values()))):
        having = {n: v[level] if level < len(v) else EMPTY for n, v in seen.items()}
        for what, column in quantities:
            drawn.append(offset_chart(f"{what}, map 1/{2**level}", having, column))
    return drawn


def offset_chart(title: str, lines: Mapping[str, Level], column: int) -> Html:
    """One column of some levels, a line for each."""
    found = [Line(name=name, x=v[0], y=v[column]) for name, v in lines.items()]
    return chart(title, found, across="iteration")
