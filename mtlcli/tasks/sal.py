"""Saliency: does a pixel belong to what one looks at first?"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mtlcli.maps import foreground
from mtlcli.maps._map import IGNORE, NO_OPTIONS, Options
from mtlcli.ops.processes import average, world
from mtlcli.tasks._shared import Curve, Statistics, as_curve, masked_mean
from mtlcli.tasks._task import Task

THRESHOLDS = np.arange(1, 20) / 20  # 0.05 ... 0.95
BETA_SQUARED = 0.3  # of the F-measure


def balanced_cross_entropy(logits: Tensor, target: Tensor, options: Options = NO_OPTIONS) -> Tensor:
    """Two-class cross-entropy in which each class weighs the share of the other in the batch
    (ATRC).

    target (B, H, W) 0 or 1, 255 ignored.
    """
    valid = target != IGNORE
    positive = average((target == 1).sum()) / average(valid.sum()).clamp(min=1 / world())
    weight = torch.stack([positive, 1 - positive]).to(logits.dtype)
    per_pixel = F.cross_entropy(
        logits, target.long(), weight=weight, ignore_index=IGNORE, reduction="none"
    )
    return masked_mean(per_pixel, valid)


def foreground_probability(logits: Tensor) -> Tensor:
    """(B, 1, H, W) softmax probability of class 1."""
    return (logits[:, 1:2].float() - logits[:, :1].float()).sigmoid()


def foreground_counts(logits: Tensor, target: Tensor, options: Options) -> Statistics:
    """Counts at 19 thresholds: `hits`, `claimed` (19,) and `positives` () int64; 255 ignored."""
    valid = target != IGNORE
    chance = foreground_probability(logits[None])[0, 0][valid].double()
    positive = target[valid] == 1
    thresholds = torch.from_numpy(THRESHOLDS).to(chance.device)
    claimed = chance[None] >= thresholds[:, None]
    return {
        "hits": (claimed & positive).sum(dim=1).cpu().numpy(),
        "claimed": claimed.sum(dim=1).cpu().numpy(),
        "positives": positive.sum().cpu().numpy(),
    }


def maximal_f(statistics: Sequence[Statistics], options: Options) -> dict[str, float]:
    """F = 1.3 P R / (0.3 P + R) of the pooled counts, the highest over the thresholds (ATRC's
    maxF).
    """
    if not any(s["positives"] for s in statistics):
        return {"maxF": math.nan, "threshold": math.nan}
    recall, precision = foreground_ratios(statistics)
    below = BETA_SQUARED * precision + recall
    f = np.divide(
        (1 + BETA_SQUARED) * precision * recall, below, out=np.zeros_like(below), where=below > 0
    )
    best = int(f.argmax())
    return {"maxF": float(f[best]), "threshold": float(THRESHOLDS[best])}


def foreground_ratios(statistics: Sequence[Statistics]) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision of the pooled counts at the 19 thresholds."""
    hits, claimed, positives = (
        np.sum([s[key] for s in statistics], axis=0, dtype=np.float64)
        for key in ("hits", "claimed", "positives")
    )
    return hits / np.maximum(positives, 1), hits / np.maximum(claimed, 1)


def foreground_curve(statistics: Sequence[Statistics], options: Options) -> Curve:
    """Recall and precision of the pooled counts per threshold; empty without a foreground."""
    if not any(s["positives"] for s in statistics):
        return {}
    recall, precision = foreground_ratios(statistics)
    return as_curve(THRESHOLDS, recall, precision)


TASK = Task(
    title="Saliency",
    question="whether it is what one looks at first",
    map=foreground.MAP,
    holds="probability that a pixel belongs to what one looks at first",
    channels=2,
    weight=5.0,
    metric="maxF",
    unit="",
    higher_is_better=True,
    loss=balanced_cross_entropy,
    decode=foreground_probability,
    measure=foreground_counts,
    score=maximal_f,
    curve=foreground_curve,
)
