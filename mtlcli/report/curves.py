"""Curves of a training run as one picture: losses, learning rate, offsets, held-out metrics."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Line = Mapping[str, Any]
Curves = dict[str, tuple[list[int], list[float]]]


def draw_curves(lines: Sequence[Line], path: Path) -> None:
    """Draw the lines of a log.jsonl into a picture file, one panel for each kind of number."""
    from matplotlib.figure import Figure

    panels = {title: curves for title, curves in collect(lines).items() if curves}
    figure = Figure(figsize=(4.5 * len(panels), 3.6), layout="constrained")
    for i, (title, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), i + 1, title=title, xlabel="iteration")
        for name, (iterations, values) in curves.items():
            axes.plot(iterations, values, label=name, linewidth=1, marker="." * (len(values) < 30))
        if min(v for _, values in curves.values() for v in values) > 0:
            axes.set_yscale("log")
        axes.legend(fontsize="x-small")
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


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
