"""How predictions are scored: statistics of one image first, scores from all images' statistics
after.

Splitting it so makes a score independent of the order of the images, of how they were batched and
of how many processes shared them: counts are integers, and sums of floats are added exactly
(`math.fsum`). Protocols: ATRC / DeMT (spec of each in the functions); all scores pool the pixels of
the whole data set.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mtlcli import boundary, decode

Statistics = dict[str, np.ndarray]
Options = Mapping[str, Any]
Curve = dict[str, list[float]]  # thresholds, recall, precision

IGNORE = 255
SALIENCY_THRESHOLDS = np.arange(1, 20) / 20  # 0.05 ... 0.95
BETA_SQUARED = 0.3  # of the saliency F-measure


# ---- statistics of one image: logits (C, H, W), target -> arrays ----


def confusion(logits: Tensor, target: Tensor, options: Options) -> Statistics:
    """Pixel counts `matrix` (classes, classes) int64, row = label, column = prediction; 255
    ignored.
    """
    from torchmetrics.functional.classification import multiclass_confusion_matrix  # slow to import

    matrix = multiclass_confusion_matrix(
        decode.most_likely_class(logits[None])[0],
        target.long(),
        num_classes=logits.shape[0],
        ignore_index=IGNORE,
        validate_args=False,
    )
    return {"matrix": matrix.cpu().numpy()}


def foreground_counts(logits: Tensor, target: Tensor, options: Options) -> Statistics:
    """Counts at 19 thresholds: `hits`, `claimed` (19,) and `positives` () int64; 255 ignored."""
    valid = target != IGNORE
    chance = decode.foreground_probability(logits[None])[0, 0][valid].double()
    positive = target[valid] == 1
    thresholds = torch.from_numpy(SALIENCY_THRESHOLDS).to(chance.device)
    claimed = chance[None] >= thresholds[:, None]
    return {
        "hits": (claimed & positive).sum(dim=1).cpu().numpy(),
        "claimed": claimed.sum(dim=1).cpu().numpy(),
        "positives": positive.sum().cpu().numpy(),
    }


def squared_depth_error(logits: Tensor, target: Tensor, options: Options) -> Statistics:
    """`sum` of squared errors (m², float64) over the `count` pixels with a measured depth."""
    valid = target > 0
    error = decode.non_negative(logits[None])[0][valid].double() - target[valid].double()
    return {"sum": error.square().sum().cpu().numpy(), "count": valid.sum().cpu().numpy()}


def angular_error(logits: Tensor, target: Tensor, options: Options) -> Statistics:
    """`sum` of the angles (degrees, float64) to the label over the `count` labelled pixels.

    The angle is 2 atan2(|a - b|, |a + b|) of the unit vectors a, b, exact for small and large
    angles alike.
    """
    valid = target.ne(0).any(dim=0)
    a = F.normalize(logits.double(), dim=0)[:, valid]
    b = F.normalize(target.double(), dim=0)[:, valid]
    angle = 2 * torch.atan2((a - b).norm(dim=0), (a + b).norm(dim=0))
    return {"sum": torch.rad2deg(angle).sum().cpu().numpy(), "count": valid.sum().cpu().numpy()}


def boundary_counts(logits: Tensor, target: Tensor, options: Options) -> Statistics:
    """Matched boundary pixels per threshold: `cntR`, `sumR`, `cntP`, `sumP` (K,) int64.

    The prediction is quantised to 8 bits as the protocol says, so that the counts are those of
    saved files. options: "protocol" (default seism), "gt_as" (default boundary), "max_dist"
    (default the protocol's); see `mtlcli.boundary`.
    """
    counts = boundary.image_counts(
        boundary.quantise(decode.probability(logits)[0].cpu().numpy()),
        (target[0] * 255).to(torch.uint8).cpu().numpy(),
        boundary.protocol_named(options.get("protocol", "seism")),
        gt_as=options.get("gt_as", "boundary"),
        max_dist=options.get("max_dist"),
    )
    return {key: getattr(counts, key) for key in ("cntR", "sumR", "cntP", "sumP")}


# ---- scores from all images' statistics ----


def intersection_over_union(statistics: Sequence[Statistics], options: Options) -> dict[str, float]:
    """Mean over the classes that occur (in a label or a prediction) of TP / (TP + FP + FN), and
    each class's.

    Classes that never occur have no value (nan) and do not enter the mean.
    """
    matrix = np.sum([s["matrix"] for s in statistics], axis=0)
    hits = np.diag(matrix).astype(np.float64)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - hits
    per_class = np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)
    mean = float(np.nanmean(per_class)) if (union > 0).any() else math.nan
    return {"mIoU": mean} | {f"IoU/{i}": float(v) for i, v in enumerate(per_class)}


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
    return {"maxF": float(f[best]), "threshold": float(SALIENCY_THRESHOLDS[best])}


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
    return as_curve(SALIENCY_THRESHOLDS, recall, precision)


def as_curve(thresholds: Sequence[float] | np.ndarray, *ratios: np.ndarray) -> Curve:
    """Plain lists of six decimals: thresholds, recall and precision."""
    names = ("thresholds", "recall", "precision")
    columns = (np.asarray(thresholds, float), *ratios)
    return {name: column.round(6).tolist() for name, column in zip(names, columns)}


def mean_of(statistics: Sequence[Statistics]) -> float:
    """Pooled mean of `sum` over `count`; nan where nothing was counted."""
    count = sum(int(s["count"]) for s in statistics)
    return math.fsum(float(s["sum"]) for s in statistics) / count if count else math.nan


def root_mean_square(statistics: Sequence[Statistics], options: Options) -> dict[str, float]:
    """Root of the mean squared depth error over all pixels, metres."""
    return {"RMSE": math.sqrt(mean_of(statistics))}


def mean_angle(statistics: Sequence[Statistics], options: Options) -> dict[str, float]:
    """Mean angle over all pixels, degrees."""
    return {"mErr": mean_of(statistics)}


def boundary_scores(statistics: Sequence[Statistics], options: Options) -> dict[str, float]:
    """odsF and its threshold, oisF and AP of the protocol options["protocol"] (default seism)."""
    if not statistics:
        return {"odsF": math.nan}
    result = boundary_result(statistics, options)
    return {key: getattr(result, key) for key in ("odsF", "threshold", "oisF", "AP")}


def boundary_curve(statistics: Sequence[Statistics], options: Options) -> Curve:
    """Recall and precision of the pooled counts per threshold; empty without pictures."""
    if not statistics:
        return {}
    curve = boundary_result(statistics, options).curve
    thresholds = boundary.protocol_named(options.get("protocol", "seism")).thresholds
    return as_curve(thresholds, curve[:, 0], curve[:, 1])


def boundary_result(statistics: Sequence[Statistics], options: Options) -> boundary.Scores:
    """All that `mtlcli.boundary` says of the pictures."""
    counts = [boundary.Counts(id=str(i), **s) for i, s in enumerate(statistics)]
    return boundary.score(counts, boundary.protocol_named(options.get("protocol", "seism")))
