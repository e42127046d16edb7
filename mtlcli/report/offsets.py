"""Where the deformable attentions of runs look: what the gradient scale λ does, on the page."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from mtlcli.report.chart import Line, chart
from mtlcli.report.curves import collect
from mtlcli.report.figures import ATTENTION, Log, panel
from mtlcli.report.markup import Html, tag
from mtlcli.report.page import breaking, charts, note, row, table

ENDS = 20  # "first" and "last" are means over one line of the log in so many
HOW = (
    "λ is the gradient scale of the offsets. A displacement that stays where it began means "
    "offsets that do not learn; a share outside near 100 % means that they ran away. First and "
    "last: means over a twentieth of the log; all attentions of a network together."
)
Level = tuple[list[float], list[float], list[float]]  # iterations, pixels, share outside
EMPTY: Level = ([], [], [])


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
    """Each attention of a run that has several."""
    panels = [panel(title, curves) for title, curves in collect(log).items() if title in ATTENTION]
    return [tag("h3", f"{name}, each attention"), charts(panels)]


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
    """Displacement and share outside on each map, a line per run."""
    drawn = []
    for level in range(max(map(len, seen.values()))):
        having = {n: v[level] if level < len(v) else EMPTY for n, v in seen.items()}
        for what, column in (("displacement, pixels", 1), ("share outside", 2)):
            lines = [Line(name=n, x=v[0], y=v[column]) for n, v in having.items()]
            drawn.append(chart(f"{what}, map 1/{2**level}", lines, across="iteration"))
    return drawn
