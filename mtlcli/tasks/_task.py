"""The record of a task: all that distinguishes one dense prediction from another, in one place.

Forms of a map (H, W in pixels):
  stored      as in the dataset file, numpy, channels last (see `mtlcli.data.reader`)
  target      as the loss wants it: class maps (H, W) uint8, all others (C, H, W) float32
  prediction  the same form as the target, decoded from the network's logits (C, H, W)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from mtlcli.deviation import Deviation
from mtlcli.keys import Key

Options = Mapping[str, Any]
Statistics = dict[str, np.ndarray]


def as_stored(stored: np.ndarray) -> np.ndarray:
    """Class maps are stored as the loss wants them."""
    return stored


@dataclass(frozen=True, kw_only=True)
class Task:
    """One dense prediction; the name of the task is the name of the file that defines it."""

    title: str  # as printed in tables and over pictures
    holds: str  # what a prediction says of each pixel, with its unit
    channels: int | None  # output channels of the network; None: one per class of the dataset
    weight: float  # of its loss in the sum (DeMT, builder.py)
    ignore: float  # target value that says "no label here"
    metric: str  # key of the main score in what `score` returns
    unit: str  # of the main score, "" for a fraction
    higher_is_better: bool
    target: Callable[[np.ndarray], np.ndarray]  # stored -> target
    loss: Callable[
        [Tensor, Tensor, Options], Tensor
    ]  # logits BCHW, target batch, options -> scalar
    decode: Callable[[Tensor], Tensor]  # logits BCHW -> predictions
    measure: Callable[[Tensor, Tensor, Options], Statistics]  # logits CHW, target -> one image's
    score: Callable[[Sequence[Statistics], Options], dict[str, float]]  # all images' -> named
    constant: Callable[[Sequence[np.ndarray], int], np.ndarray]  # targets, channels -> logits (C,)
    encode: Callable[[np.ndarray], np.ndarray]  # prediction -> pixels of a PNG file
    draw: Callable[[np.ndarray, Options], np.ndarray]  # prediction or target -> RGB (H, W, 3) uint8
    key: Callable[[np.ndarray, Options], Key]  # prediction or target -> what explains its colours
    deviation: Callable[[np.ndarray, np.ndarray, Options], Deviation]  # prediction, target -> error
    scale: Callable[[np.ndarray], dict[str, float]] | None = (
        None  # a map -> the options by which others are drawn in the same range
    )
    curve: Callable[[Sequence[Statistics], Options], dict[str, list[float]]] | None = (
        None  # all images' -> thresholds, recall, precision
    )
    mirror: Callable[[np.ndarray], np.ndarray] | None = None  # of a flipped target
    zoom: Callable[[np.ndarray, float], np.ndarray] | None = (
        None  # of a target shown f times larger
    )
    balances_crops: bool = False  # crops must show several of its classes

    def outputs(self, classes: Sequence[str]) -> int:
        """Channels the network needs for this task on a dataset with these classes."""
        return self.channels if self.channels is not None else len(classes)

    def is_labelled(self, targets: Tensor) -> Tensor:
        """Scalar bool: whether any pixel of a batch of targets has a label."""
        return targets.ne(self.ignore).any()

    def unlabelled(self, height: int, width: int) -> np.ndarray:
        """The target of a picture without any label for this task."""
        stored = np.zeros((height, width, 3) if self.channels == 3 else (height, width), np.uint8)
        return np.full_like(self.target(stored), self.ignore)
