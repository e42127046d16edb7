"""Maps as pictures, in the field's conventional colours. Torch-free; every `draw_*` returns RGB (H,
W, 3) uint8.

Maps come as in `mtlcli.tasks._task`: class maps (H, W), others (C, H, W).
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np

from mtlcli import encode

IGNORE = 255
NO_LABEL = (0, 0, 0)  # colour of pixels without a label
VOC_VOID = (224, 224, 192)

RGB = tuple[int, int, int]
Options = Mapping[str, Any]


def voc_palette(count: int) -> tuple[RGB, ...]:
    """The colour map of PASCAL VOC: the bits of the class index dealt to R, G, B from the top bit
    down.
    """

    def colour(index: int) -> RGB:
        r = g = b = 0
        for bit in range(7, -1, -1):
            r |= (index & 1) << bit
            g |= (index >> 1 & 1) << bit
            b |= (index >> 2 & 1) << bit
            index >>= 3
        return r, g, b

    return tuple(colour(i) for i in range(count))


def draw_classes(classes: np.ndarray, options: Options) -> np.ndarray:
    """Class indices in the colours of options["palette"] (VOC's if there is none), 255 black."""
    palette: Sequence[Sequence[int]] = options.get("palette") or voc_palette(255)
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = np.asarray(palette, np.uint8)
    table[IGNORE] = NO_LABEL
    return np.take(table, classes, axis=0)


@cache
def inferno() -> np.ndarray:
    """The colour map inferno, (256, 3) uint8 from dark to bright."""
    levels = np.arange(256, dtype=np.uint8)[:, None]
    return cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[:, 0, ::-1]


@cache
def grey() -> np.ndarray:
    """(256, 3) uint8 from black to white."""
    return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def draw_depth(depth: np.ndarray, options: Options) -> np.ndarray:
    """Near bright, far dark (inferno reversed) between options["near"] and ["far"] metres; 0 m is
    black.

    Without them the range is the map's own, 2nd to 98th percentile.
    """
    metres = depth[0]
    measured = metres > 0
    near, far = options.get("near"), options.get("far")
    if near is None or far is None:
        near, far = depth_range(metres)
    position = (far - metres) * np.float32(255 / max(far - near, 1e-6))
    picture = np.take(inferno(), np.clip(position, 0, 255).astype(np.uint8), axis=0)
    if not measured.all():
        picture[~measured] = NO_LABEL
    return picture


def depth_range(metres: np.ndarray) -> tuple[float, float]:
    """2nd and 98th percentile of the measured depths; (0, 1) where nothing is measured."""
    measured = metres[metres > 0]
    if not len(measured):
        return 0.0, 1.0
    near, far = np.percentile(measured, (2, 98))
    return float(near), float(far)


def depth_scale(depth: np.ndarray) -> dict[str, float]:
    """A map's own range (`depth_range`) as options of `draw_depth`, for maps that share it."""
    near, far = depth_range(depth[0])
    return {"near": near, "far": far}


def draw_normals(normals: np.ndarray, options: Options) -> np.ndarray:
    """(n + 1) / 2 as RGB; the zero vector (no label) is black."""
    picture = encode.as_normal_codes(normals)
    labelled = normals.any(axis=0)
    if not labelled.all():
        picture[~labelled] = NO_LABEL
    return picture


def draw_probability(probability: np.ndarray, options: Options) -> np.ndarray:
    """White where certain; labels (0, 1, 255 = none) and probabilities alike."""
    chance = probability[0] if probability.ndim == 3 else probability
    known = np.where(chance == IGNORE, 0, chance)
    return np.repeat((known * 255).astype(np.uint8)[..., None], 3, axis=2)


def draw_boundaries(probability: np.ndarray, options: Options) -> np.ndarray:
    """Black lines on white, the way boundary maps are printed."""
    return 255 - draw_probability(probability, options)
