"""Colours that several kinds of maps share. Pictures are RGB (H, W, 3) uint8."""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

RGB = tuple[int, int, int]
NO_LABEL: RGB = (0, 0, 0)  # colour of pixels without a label


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


@cache
def colour_map(name: str) -> np.ndarray:
    """(256, 3) uint8 from dark to bright (turbo: from blue to red)."""
    if name == "grey":
        return grey()
    levels = np.arange(256, dtype=np.uint8)[:, None]
    return cv2.applyColorMap(levels, getattr(cv2, f"COLORMAP_{name.upper()}"))[:, 0, ::-1]


def inferno() -> np.ndarray:
    """The colour map that is used unless another is wanted."""
    return colour_map("inferno")


@cache
def grey() -> np.ndarray:
    """(256, 3) uint8 from black to white."""
    return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def heat(share: np.ndarray) -> np.ndarray:
    """(H, W) in [0, 1] and beyond as RGB from dark to bright."""
    return np.asarray(inferno()[(np.nan_to_num(share, nan=1.0).clip(0, 1) * 255).astype(np.uint8)])


def blacken(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The picture with the pixels that are not known (H, W) in black."""
    return np.where(known[..., None], picture, np.array(NO_LABEL, np.uint8))


def plain(colour: Sequence[int]) -> RGB:
    """Plain integers, which Pillow wants."""
    red, green, blue = map(int, colour)
    return red, green, blue
