"""The record of a kind of map, all but what is learnt of it, and the keys to its colours.

Forms of a map (H, W in pixels):
  stored      as in the dataset file, numpy, channels last (see `mtlcli.data.reader`)
  target      as the loss wants it: classes and foreground (H, W) uint8, others (C, H, W) float32
  prediction  the same form as the target; of a foreground its probability (1, H, W) float32
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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


Options = Mapping[str, Any]
"""Of a task on a dataset: "names" and "palette" of its classes, its "unit", "near" and "far" ends
of its scale, and what its loss and metric are told ("positive_weight", "max_dist", "protocol").
"""
NO_OPTIONS: Options = {}
IGNORE = 255  # class index, part, saliency or boundary that carries no label


@dataclass(frozen=True, kw_only=True)
class ErrorMap:
    """Where a prediction departs from its label, as a picture; without a label black."""

    picture: np.ndarray  # RGB (H, W, 3) uint8
    key: Key
    summary: str  # the error in one number, of this picture alone


@dataclass(frozen=True, kw_only=True)
class Map:
    """One kind of map; its name is the name of the file that defines it."""

    usual: tuple[str, ...]
    """Tasks of the field whose maps are of this kind; the first stands for a task of a new name."""
    stored: type[np.generic]
    """The numpy type in the dataset file."""
    exact: type[np.generic] | None = None
    """The type instead where a source has more than codes."""
    planes: int = 1
    """Numbers at a pixel, as stored: (H, W) for 1, else (H, W, planes)."""
    unlabelled: float
    """The target's value that says "no label here"."""
    has_classes: bool = False
    """Whether values are indices of named classes."""
    is_binary: bool = False
    """Whether a pixel is set or not, so that the share of set pixels is worth knowing."""
    unit: str = ""
    """Of the values, unless the dataset says another."""
    pointed: str
    """How a page reads a value under the pointer: class, number, direction or share."""
    settings: Options = field(default_factory=dict)
    """What a YAML dataset may say of such a task, with what it is unless said; None: nothing."""
    reading: tuple[str, ...] = ()
    """Those of them that end with the reading of a file."""

    read: Callable[[bytes, str, Options], np.ndarray]
    """Bytes of a label file, its name, what YAML says -> stored; raises ValueError."""
    problem: Callable[[np.ndarray, int, Options], str]
    """Stored, number of classes, options -> why it cannot be, "" if it can."""
    labelled: Callable[[np.ndarray], np.ndarray]
    """Stored -> (H, W) bool: pixels that carry a label."""
    target: Callable[[np.ndarray], np.ndarray]
    """Stored -> target."""
    mirror: Callable[[np.ndarray], np.ndarray] | None = None
    """Of a flipped target."""
    zoom: Callable[[np.ndarray, float], np.ndarray] | None = None
    """Of a target shown f times larger."""
    crop: Callable[[np.ndarray], np.ndarray] | None = None
    """Of the target of a training crop, what lies outside the picture already unlabelled."""
    constant: Callable[[Sequence[np.ndarray], int], np.ndarray]
    """Targets, channels -> the logits (C,) that, repeated at every pixel, fit them best."""

    encode: Callable[[np.ndarray, Options], np.ndarray]
    """Prediction -> pixels of a PNG file."""
    coded: str = ""
    """How these pixels x are read back, where that is not by `step` or as indices."""
    step: Callable[[Options], float] | None = None
    """What one step of these pixels is worth, where they are numbers in the unit."""
    colour_table: Callable[[Options], np.ndarray] | None = None
    """(256, 3) uint8: the palette of that file, where pixels are indices."""
    draw: Callable[[np.ndarray, Options], np.ndarray]
    """Prediction or target -> RGB (H, W, 3) uint8."""
    key: Callable[[np.ndarray, Options], Key]
    """Prediction or target -> what explains its colours."""
    error: Callable[[np.ndarray, np.ndarray, Options], ErrorMap]
    """Prediction, target -> where they differ."""
    scale: Callable[[np.ndarray], dict[str, float]] | None = None
    """A map -> the options by which others are drawn in the same range."""

    def empty(self, height: int, width: int) -> np.ndarray:
        """The target of a picture without any label for this task."""
        shape = (height, width) if self.planes == 1 else (height, width, self.planes)
        target = self.target(np.zeros(shape, self.stored))
        return np.full_like(target, self.unlabelled)
