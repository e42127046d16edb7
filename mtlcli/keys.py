"""What explains the colours of a map: its classes by name, a scale with both ends, a ball of
normals. Torch-free; each `of_*` takes a prediction (see `mtlcli.tasks._task`) and what is known of
the dataset.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtlcli import colors
from mtlcli.colors import RGB

Options = Mapping[str, Any]
SPECK = 0.0005  # share of the picture below which a class is not named
BEYOND = 0.03  # share of the pixels that a scale may leave out at one end unsaid
NEGLIGIBLE = 0.05  # metres beyond the end of a scale, which one decimal does not show


@dataclass(frozen=True, kw_only=True)
class Swatches:
    """Names with their colours."""

    entries: Sequence[tuple[str, RGB]]  # most frequent first


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A bar of colours between two values."""

    colours: np.ndarray  # (N, 3) uint8, from left to right
    low: str
    high: str


@dataclass(frozen=True, kw_only=True)
class Ball:
    """The colour of every direction, shown as a ball in front of the camera has them."""

    text: str


Key = Swatches | Scale | Ball


def of_classes(classes: np.ndarray, options: Options) -> Swatches:
    """The classes in sight by options["names"], the most frequent first; 255 is "no label"."""
    names: Sequence[str] = options.get("names", ())
    palette = options.get("palette") or colors.voc_palette(len(names))
    known = {i: (name, plain(palette[i])) for i, name in enumerate(names)}
    known[colors.IGNORE] = ("no label", colors.NO_LABEL)
    counts = np.bincount(classes.ravel(), minlength=256)
    seen = [i for i in np.argsort(-counts, kind="stable") if counts[i] > SPECK * classes.size]
    return Swatches(entries=[known[i] for i in seen if i in known])


def plain(colour: Sequence[int]) -> RGB:
    """Plain integers, which Pillow wants."""
    red, green, blue = map(int, colour)
    return red, green, blue


def of_depth(depth: np.ndarray, options: Options) -> Scale:
    """From options["near"] to ["far"] metres, else the map's own range; an end says so where many
    pixels lie beyond it.
    """
    reach = {**colors.depth_scale(depth), **options}
    near, far, measured = reach["near"], reach["far"], depth[depth > 0]
    many = BEYOND * measured.size
    nearer = "<" if np.count_nonzero(measured < near - NEGLIGIBLE) > many else ""
    farther = ">" if np.count_nonzero(measured > far + NEGLIGIBLE) > many else ""
    return Scale(
        colours=colors.inferno()[::-1], low=f"{nearer}{near:.1f} m", high=f"{farther}{far:.1f} m"
    )


def of_normals(normals: np.ndarray, options: Options) -> Ball:
    """A ball: its top has the colour of floors, its middle that of a wall straight ahead."""
    return Ball(text="direction, as on a ball in view")


def of_boundaries(probability: np.ndarray, options: Options) -> Scale:
    """White is no boundary, black a certain one."""
    return Scale(colours=colors.grey()[::-1], low="0", high="1")


def of_probability(probability: np.ndarray, options: Options) -> Scale:
    """Black is no, white is yes."""
    return Scale(colours=colors.grey(), low="0", high="1")


def ball(diameter: int) -> tuple[np.ndarray, np.ndarray]:
    """A ball as the camera sees it, in the colours of its outward-from-the-camera normals.

    Returns:
        RGB (N, N, 3) uint8, and (N, N) float32: how much of each pixel the ball covers.
    """
    steps = (np.arange(diameter) + 0.5) / diameter * 2 - 1
    x, y = np.meshgrid(steps, steps)
    z = np.sqrt(np.clip(1 - x**2 - y**2, 0, None))
    normals = np.stack((-x, -y, z))  # what one sees faces the camera; labels point away from it
    normals /= np.linalg.norm(normals, axis=0)
    cover = ((1 - np.hypot(x, y)) * diameter / 2 + 0.5).clip(0, 1)
    return colors.draw_normals(normals.astype(np.float32), {}), cover.astype(np.float32)
