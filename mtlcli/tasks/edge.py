"""Object boundaries, scored by matching (odsF)."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from mtlcli.maps import boundaries
from mtlcli.maps._map import IGNORE, Options
from mtlcli.tasks._shared import Curve, Statistics, as_curve, masked_mean
from mtlcli.tasks._task import Task

if TYPE_CHECKING:
    from mtlcli import boundary


def balanced_binary_cross_entropy(logits: Tensor, target: Tensor, options: Options) -> Tensor:
    """w * positives + (1 - w) * negatives of the binary cross-entropy (ASTMT; ATRC builder.py).

    target (B, 1, H, W) in [0, 1], 255 ignored; w = options["positive_weight"] (0.8 on NYUD-v2, 0.95
    on PASCAL-Context). Written, as there, through BCE-with-logits with pos_weight w / (1 - w).
    """
    w = float(options["positive_weight"])
    valid = target != IGNORE
    per_pixel = F.binary_cross_entropy_with_logits(
        logits,
        torch.where(valid, target, 0),
        pos_weight=torch.tensor(w / (1 - w), dtype=logits.dtype, device=logits.device),
        reduction="none",
    )
    return masked_mean(per_pixel, valid) * (1 - w)


def probability(logits: Tensor) -> Tensor:
    """(B, 1, H, W) sigmoid."""
    return logits.float().sigmoid()


def boundary_counts(logits: Tensor, target: Tensor, options: Options) -> Statistics:
    """Matched boundary pixels per threshold: `cntR`, `sumR`, `cntP`, `sumP` (K,) int64.

    The prediction is quantised to 8 bits as the protocol says, so that the counts are those of
    saved files. target (1, H, W) in [0, 1], or a partition's (H, W) uint8 labels. options:
    "protocol" (default seism), "gt_as" (default boundary), "max_dist" (default the protocol's); see
    `mtlcli.boundary`.
    """
    from mtlcli import boundary

    truth = (target[0] * 255).to(torch.uint8) if target.is_floating_point() else target
    counts = boundary.image_counts(
        boundary.quantise(probability(logits)[0].cpu().numpy()),
        truth.cpu().numpy(),
        boundary.protocol_named(options.get("protocol", "seism")),
        gt_as=options.get("gt_as", "boundary"),
        max_dist=options.get("max_dist"),
    )
    return {key: getattr(counts, key) for key in ("cntR", "sumR", "cntP", "sumP")}


def boundary_scores(statistics: Sequence[Statistics], options: Options) -> dict[str, float]:
    """odsF and its threshold, oisF and AP of the protocol options["protocol"] (default seism)."""
    if not statistics:
        return {"odsF": math.nan}
    result = boundary_result(statistics, options)
    return {key: getattr(result, key) for key in ("odsF", "threshold", "oisF", "AP")}


def boundary_curve(statistics: Sequence[Statistics], options: Options) -> Curve:
    """Recall and precision of the pooled counts per threshold; empty without pictures."""
    from mtlcli import boundary

    if not statistics:
        return {}
    curve = boundary_result(statistics, options).curve
    thresholds = boundary.protocol_named(options.get("protocol", "seism")).thresholds
    return as_curve(thresholds, curve[:, 0], curve[:, 1])


def boundary_result(statistics: Sequence[Statistics], options: Options) -> "boundary.Scores":
    """All that `mtlcli.boundary` says of the pictures."""
    from mtlcli import boundary

    counts = [
        boundary.Counts(id=str(i), cntR=s["cntR"], sumR=s["sumR"], cntP=s["cntP"], sumP=s["sumP"])
        for i, s in enumerate(statistics)
    ]
    return boundary.score(counts, boundary.protocol_named(options.get("protocol", "seism")))


TASK = Task(
    title="Boundaries",
    question="where one thing ends and the next begins",
    map=boundaries.MAP,
    holds="probability of an object boundary",
    channels=1,
    weight=50.0,
    metric="odsF",
    unit="",
    higher_is_better=True,
    loss=balanced_binary_cross_entropy,
    decode=probability,
    measure=boundary_counts,
    score=boundary_scores,
    curve=boundary_curve,
)
