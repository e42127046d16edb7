"""What explains the colours of a map: classes by name, a scale with both ends, a ball."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtlcli.maps._colours import RGB


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
