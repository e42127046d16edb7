"""Depth: metres along the optical axis."""

import math
from collections.abc import Sequence

from torch import Tensor

from mtlcli.maps import depth
from mtlcli.maps._map import NO_OPTIONS, Options
from mtlcli.tasks._shared import Statistics, masked_mean, mean_of
from mtlcli.tasks._task import Task


def depth_l1(logits: Tensor, target: Tensor, options: Options = NO_OPTIONS) -> Tensor:
    """Mean absolute error in metres; target (B, 1, H, W), 0 ignored."""
    return masked_mean((logits - target).abs(), target > 0)


def non_negative(logits: Tensor) -> Tensor:
    """(B, 1, H, W) metres, negative depths cut to 0."""
    return logits.float().clamp(min=0)


def squared_depth_error(logits: Tensor, target: Tensor, options: Options) -> Statistics:
    """`sum` of squared errors (m², float64) over the `count` pixels with a measured depth."""
    valid = target > 0
    error = non_negative(logits[None])[0][valid].double() - target[valid].double()
    return {"sum": error.square().sum().cpu().numpy(), "count": valid.sum().cpu().numpy()}


def root_mean_square(statistics: Sequence[Statistics], options: Options) -> dict[str, float]:
    """Root of the mean squared depth error over all pixels, metres."""
    return {"RMSE": math.sqrt(mean_of(statistics))}


TASK = Task(
    title="Depth",
    question="how far away it is",
    map=depth.MAP,
    holds="metres along the optical axis, 0 or more",
    channels=1,
    weight=1.0,
    metric="RMSE",
    unit="m",
    higher_is_better=False,
    loss=depth_l1,
    decode=non_negative,
    measure=squared_depth_error,
    score=root_mean_square,
)
