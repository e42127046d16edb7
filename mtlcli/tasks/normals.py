"""Surface normals: outward unit vectors in the camera frame (x right, y down, z forward)."""

import cv2
import numpy as np

from mtlcli import colors, constant, decode, deviation, encode, keys, losses, metrics
from mtlcli.planes import through_table
from mtlcli.tasks._task import Task

CODE_VALUES = np.tile((2 * np.arange(256) / 255 - 1).astype(np.float32), (3, 1))  # (3, 256)


def target(stored: np.ndarray) -> np.ndarray:
    """Stored (H, W, 3) codes or vectors -> (3, H, W) float32; the zero vector is "no label".

    Codes decode as n = 2x/255 - 1 (ATRC's and DeMT's PNG files); the code (0, 0, 0) is no label.
    """
    if stored.dtype != np.uint8:
        return np.ascontiguousarray(stored.transpose(2, 0, 1), dtype=np.float32)
    vectors = through_table(stored, CODE_VALUES)
    unlabelled = cv2.inRange(stored, (0, 0, 0), (0, 0, 0))
    if cv2.countNonZero(unlabelled):
        np.copyto(vectors, 0, where=unlabelled > 0)
    return vectors


def mirror(normals: np.ndarray) -> np.ndarray:
    """In a mirrored picture left and right change places, so x changes its sign."""
    normals[0] *= -1
    return normals


TASK = Task(
    title="Surface normals",
    holds="outward unit vectors: x right, y down, z forward from the camera",
    channels=3,
    weight=10.0,
    ignore=0.0,
    metric="mErr",
    unit="°",
    higher_is_better=False,
    target=target,
    loss=losses.normals_l1,
    decode=decode.unit_vectors,
    measure=metrics.angular_error,
    score=metrics.mean_angle,
    constant=constant.mean_direction,
    encode=encode.as_normal_codes,
    draw=colors.draw_normals,
    key=keys.of_normals,
    deviation=deviation.of_normals,
    mirror=mirror,
)
