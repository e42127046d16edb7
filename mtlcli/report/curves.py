"""Curves of a training run as one picture: losses, learning rate, offsets, held-out metrics."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtlcli.report.chart import limits, log_limits, log_ticks, ticks
from mtlcli.report.chart import short as label

Line = Mapping[str, Any]
Curves = dict[str, tuple[list[int], list[float]]]


def draw_curves(lines: Sequence[Line], path: Path) -> None:
    """Draw the lines of a log.jsonl into a picture file, one panel for each kind of number; nothing
    is drawn of nothing.
    """
    from matplotlib.figure import Figure

    panels = {title: curves for title, curves in collect(lines).items() if curves}
    if not panels:
        return
    figure = Figure(figsize=(4.5 * len(panels), 4.2), layout="constrained")
    for i, (title, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), i + 1, title=title, xlabel="iteration")
        draw_panel(axes, curves, logarithmic=is_logarithmic(title, curves))
    figure.savefig(path, dpi=120)


def is_logarithmic(title: str, curves: Curves) -> bool:
    """Whether a panel shows ratios: that of the losses does, where all are above 0."""
    return title == "loss" and all(v > 0 for _, values in curves.values() for v in values)


def draw_panel(axes: Any, curves: Curves, *, logarithmic: bool) -> None:
    """Curves on the axes that `mtlcli.report.chart` would choose; their names below."""
    for name, (iterations, values) in curves.items():
        axes.plot(iterations, values, label=name, linewidth=1, marker="." * (len(values) < 30))
    found = [v for _, values in curves.values() for v in values if math.isfinite(v)]
    if found:
        ends = (log_limits if logarithmic else limits)(min(found), max(found))
        marks = (log_ticks if logarithmic else ticks)(*ends)
        axes.set_yscale("log" if logarithmic else "linear")
        axes.minorticks_off()
        axes.set_yticks(marks, [label(v) for v in marks])
        axes.set_ylim(ends)
    axes.legend(fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    axes.grid(alpha=0.3)


def collect(lines: Sequence[Line]) -> dict[str, Curves]:
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
    """The last telling parts of a module's path: decoder.interaction.steps.0.attention ->
    steps.0.
    """
    return ".".join(path.removesuffix(".attention").split(".")[-2:])
