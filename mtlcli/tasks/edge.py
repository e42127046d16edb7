"""Object boundaries, scored by matching (odsF)."""

import cv2
import numpy as np

from mtlcli import colors, constant, decode, deviation, encode, keys, losses, metrics
from mtlcli.tasks._task import Task

CODE_VALUES = (np.arange(256) / 255).astype(np.float32)


def target(stored: np.ndarray) -> np.ndarray:
    """(H, W) codes 0..255 -> (1, H, W) float32 in [0, 1]."""
    return cv2.LUT(stored, CODE_VALUES)[None]


TASK = Task(
    title="Boundaries",
    holds="probability of an object boundary",
    channels=1,
    weight=50.0,
    ignore=255.0,
    metric="odsF",
    unit="",
    higher_is_better=True,
    target=target,
    loss=losses.balanced_binary_cross_entropy,
    decode=decode.probability,
    measure=metrics.boundary_counts,
    score=metrics.boundary_scores,
    curve=metrics.boundary_curve,
    constant=constant.log_odds,
    encode=encode.as_bytes,
    draw=colors.draw_boundaries,
    key=keys.of_boundaries,
    deviation=deviation.of_boundaries,
)
