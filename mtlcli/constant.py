"""The best constant prediction: what a network must beat to have learnt anything from the picture.

Each function takes the targets of some training pictures and gives the logits (C,) that, repeated
at every pixel, fit them best.
"""

import math
from collections.abc import Sequence

import numpy as np

IGNORE = 255


def class_log_frequency(targets: Sequence[np.ndarray], channels: int) -> np.ndarray:
    """Logarithm of each class's share of the labelled pixels: its largest entry is the majority
    class.
    """
    counts = sum(
        np.bincount(t[t != IGNORE].ravel(), minlength=channels)[:channels] for t in targets
    )
    share = np.maximum(np.asarray(counts, dtype=np.float64), 1e-3)
    return np.log(share / share.sum())


def mean_depth(targets: Sequence[np.ndarray], channels: int) -> np.ndarray:
    """Mean of the measured depths, metres."""
    return np.array([np.concatenate([t[t > 0] for t in targets]).mean(dtype=np.float64)])


def mean_direction(targets: Sequence[np.ndarray], channels: int) -> np.ndarray:
    """Mean of the normals."""
    return np.mean([t.reshape(3, -1).mean(axis=1, dtype=np.float64) for t in targets], axis=0)


def log_odds(targets: Sequence[np.ndarray], channels: int) -> np.ndarray:
    """Logit of the share of boundary pixels."""
    share = np.mean([t[t != IGNORE].mean(dtype=np.float64) for t in targets])
    return np.array([math.log(max(share, 1e-6) / max(1 - share, 1e-6))])
