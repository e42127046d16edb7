"""The record of a task: what is learnt of a kind of map, and how well."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mtlcli.maps._map import Map, Options
from mtlcli.tasks._shared import Curve, Statistics


@dataclass(frozen=True, kw_only=True)
class Task:
    """One dense prediction; the name of the task is the name of the file that defines it."""

    title: str
    """As printed in tables and over pictures."""
    question: str = ""
    """What it answers of each pixel, in the words of a lay person."""
    map: Map
    """What its labels and predictions look like."""
    holds: str
    """What a prediction says of each pixel, with its unit."""
    channels: int | None
    """Output channels of the network; None: one per class of the dataset."""
    weight: float
    """Of its loss in the sum (DeMT, builder.py)."""
    metric: str
    """Key of the main score in what `score` returns."""
    unit: str
    """Of the main score, "" for a fraction."""
    higher_is_better: bool
    balances_crops: bool = False
    """Whether crops must show several of its classes."""

    loss: Callable[[Tensor, Tensor, Options], Tensor]
    """Logits BCHW, target batch, options -> scalar."""
    decode: Callable[[Tensor], Tensor]
    """Logits BCHW -> predictions."""
    measure: Callable[[Tensor, Tensor, Options], Statistics]
    """Logits CHW, target, options -> one image's statistics."""
    score: Callable[[Sequence[Statistics], Options], dict[str, float]]
    """All images' statistics -> named scores."""
    curve: Callable[[Sequence[Statistics], Options], Curve] | None = None
    """All images' statistics -> thresholds, recall, precision."""

    def outputs(self, classes: Sequence[str]) -> int:
        """Channels the network needs for this task on a dataset with these classes."""
        return self.channels if self.channels is not None else len(classes)

    def best_constant(self, targets: Sequence[np.ndarray], classes: Sequence[str]) -> np.ndarray:
        """The logits (C,) that, repeated at every pixel, fit the targets best."""
        return self.map.constant(targets, self.outputs(classes))

    def is_labelled(self, targets: Tensor) -> Tensor:
        """Scalar bool: whether any pixel of a batch of targets has a label."""
        return self._known(targets).any()

    def count_labelled(self, targets: Tensor) -> int:
        """Pixels of a batch of targets that have a label."""
        known = self._known(targets)
        return int(known.any(dim=1).sum() if known.ndim == 4 else known.sum())

    def _known(self, targets: Tensor) -> Tensor:
        unlabelled = self.map.unlabelled
        return targets.isfinite() if unlabelled != unlabelled else targets.ne(unlabelled)
