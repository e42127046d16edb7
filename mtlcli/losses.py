"""The losses of ATRC and DeMT, each a mean over the labelled pixels of the whole batch.

Where several processes share the batch, each counts the labelled pixels of all, so that the mean of
their losses is the loss of the batch.

All take logits (B, C, H, W) and return a scalar; a batch without any labelled pixel gives 0 with a
gradient of 0. `options` is the dataset's record for the task (only the boundary loss reads it).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mtlcli.ops.processes import average, world

IGNORE = 255


def masked_mean(per_pixel: Tensor, valid: Tensor) -> Tensor:
    """Mean of `per_pixel` where `valid`, 0 where nothing is valid; both of the same shape."""
    total = torch.where(valid, per_pixel, 0).sum()
    return total / average(valid.sum()).clamp(min=1 / world()).to(total.dtype)


def cross_entropy(
    logits: Tensor, target: Tensor, options: Mapping[str, Any] | None = None
) -> Tensor:
    """Softmax cross-entropy; target (B, H, W) class indices, 255 ignored."""
    per_pixel = F.cross_entropy(logits, target.long(), ignore_index=IGNORE, reduction="none")
    return masked_mean(per_pixel, target != IGNORE)


def balanced_cross_entropy(
    logits: Tensor, target: Tensor, options: Mapping[str, Any] | None = None
) -> Tensor:
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


def balanced_binary_cross_entropy(
    logits: Tensor, target: Tensor, options: Mapping[str, Any]
) -> Tensor:
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


def depth_l1(logits: Tensor, target: Tensor, options: Mapping[str, Any] | None = None) -> Tensor:
    """Mean absolute error in metres; target (B, 1, H, W), 0 ignored."""
    return masked_mean((logits - target).abs(), target > 0)


def normals_l1(logits: Tensor, target: Tensor, options: Mapping[str, Any] | None = None) -> Tensor:
    """L1 distance between the normalised prediction and the target, summed over x, y, z.

    target (B, 3, H, W) unit vectors, the zero vector ignored. Per pixel, not per pixel and channel:
    ATRC's and DeMT's convention (MTI-Net divides by 3 once more).
    """
    distance = (F.normalize(logits, dim=1) - target).abs().sum(dim=1)
    return masked_mean(distance, target.ne(0).any(dim=1))
