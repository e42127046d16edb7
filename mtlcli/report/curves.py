"""What the curves of a training run show: losses, learning rate, offsets, held-out metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

Line = Mapping[str, Any]
Curves = dict[str, tuple[list[int], list[float]]]


def is_logarithmic(title: str, curves: Curves) -> bool:
    """Whether a panel shows ratios: that of the losses does, where all are above 0."""
    return title == "loss" and all(v > 0 for _, values in curves.values() for v in values)


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
