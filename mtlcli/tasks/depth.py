"""Depth: metres along the optical axis."""

import numpy as np

from mtlcli import colors, constant, decode, deviation, encode, keys, losses, metrics
from mtlcli.tasks._task import Task


def target(stored: np.ndarray) -> np.ndarray:
    """(H, W) metres -> (1, H, W) float32; 0 stays 0, which is "not measured"."""
    return stored[None].astype(np.float32, copy=False)


def zoom(depth: np.ndarray, factor: float) -> np.ndarray:
    """What fills `factor` times as many pixels with the same camera is that much nearer."""
    return depth / np.float32(factor)


TASK = Task(
    title="Depth",
    holds="metres along the optical axis, 0 or more",
    channels=1,
    weight=1.0,
    ignore=0.0,
    metric="RMSE",
    unit="m",
    higher_is_better=False,
    target=target,
    loss=losses.depth_l1,
    decode=decode.non_negative,
    measure=metrics.squared_depth_error,
    score=metrics.root_mean_square,
    constant=constant.mean_depth,
    encode=encode.as_millimetres,
    draw=colors.draw_depth,
    key=keys.of_depth,
    deviation=deviation.of_depth,
    scale=colors.depth_scale,
    zoom=zoom,
)
