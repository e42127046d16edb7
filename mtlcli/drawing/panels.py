"""Plain panels side by side, without titles or keys: `--layout picture,depth`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mtlcli.drawing.overlay import can_overlay, overlay
from mtlcli.drawing.prediction import Maps, describe_missing
from mtlcli.errors import InputError
from mtlcli.runs.checkpoint import Trained

PICTURE, OVERLAY = "picture", "overlay"


def check_panels(trained: Trained, panels: Sequence[str], tasks: Sequence[str]) -> None:
    """Refuse what a network cannot show, or is not to predict.

    Args:
        trained: the network.
        panels: as typed.
        tasks: of the network those that are predicted.

    Raises:
        InputError: a panel that is neither picture, overlay nor one of these tasks.
    """
    known, shown = (panels_of(trained, its) for its in (trained.tasks, tasks))
    for panel in panels:
        if panel not in known:
            said = describe_missing(panel, trained.tasks)
            raise InputError(f"--layout {panel}: {said} Panels: {', '.join(known)}.")
        if panel not in shown:
            raise InputError(
                f"--layout {panel}: --tasks {','.join(tasks)} leaves that out. "
                f"Panels: {', '.join(shown)}."
            )


def panels_of(trained: Trained, tasks: Iterable[str]) -> list[str]:
    """What can be shown of these tasks."""
    return [PICTURE, *([OVERLAY] if can_overlay(trained, tasks) else []), *tasks]


def draw_panels(
    trained: Trained,
    panels: Sequence[str],
    image: np.ndarray,
    maps: Maps,
    shared: Mapping[str, Mapping[str, Any]] | None = None,
) -> np.ndarray:
    """The panels from left to right, RGB (H, W, 3) uint8; both sides are even, as video needs them.

    Args:
        trained: the network.
        panels: see `check_panels`.
        image: RGB (H, W, 3) uint8.
        maps: of the picture's size.
        shared: options of drawing by task, such as a range that several frames share.
    """

    def draw(panel: str) -> np.ndarray:
        if panel == PICTURE:
            return image
        if panel == OVERLAY:
            return overlay(trained, image, maps)
        options = {**trained.dataset.drawing(panel), **(shared or {}).get(panel, {})}
        return trained.tasks[panel].map.draw(maps[panel], options)

    strip = np.concatenate([draw(panel) for panel in panels], axis=1)
    height, width = strip.shape[:2]
    return np.pad(strip, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
