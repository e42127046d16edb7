"""What several tasks share: means over labelled pixels, losses and metrics of class maps.

Losses are those of ATRC and DeMT, each a mean over the labelled pixels of the whole batch. Where
several processes share the batch, each counts the labelled pixels of all, so that the mean of their
losses is the loss of the batch. All take logits (B, C, H, W) and return a scalar; a batch without
any labelled pixel gives 0 with a gradient of 0.

Scores are statistics of one image first and scores of all images' statistics after. That makes a
score independent of the order of the images, of how they were batched and of how many processes
shared them: counts are integers, and sums of floats are added exactly (`math.fsum`). All scores
pool the pixels of the whole data set (ATRC, DeMT).
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mtlcli.maps._map import IGNORE, NO_OPTIONS, Options
from mtlcli.ops.processes import average, world

Statistics = dict[str, np.ndarray]
Curve = dict[str, list[float]]  # thresholds, recall, precision


def masked_mean(per_pixel: Tensor, valid: Tensor) -> Tensor:
    """Mean of `per_pixel` where `valid`, 0 where nothing is valid; both of the same shape."""
    total = torch.where(valid, per_pixel, 0).sum()
    return total / average(valid.sum()).clamp(min=1 / world()).to(total.dtype)


def cross_entropy(logits: Tensor, target: Tensor, options: Options = NO_OPTIONS) -> Tensor:
    """Softmax cross-entropy; target (B, H, W) class indices, 255 ignored."""
    per_pixel = F.cross_entropy(logits, target.long(), ignore_index=IGNORE, reduction="none")
    return masked_mean(per_pixel, target != IGNORE)


def most_likely_class(logits: Tensor) -> Tensor:
    """(B, H, W) uint8 class indices, the first of equals.

    Plane after plane, which on the CPU takes a tenth of what argmax over the second axis takes.
    """
    highest = logits[:, 0].clone()
    classes = torch.zeros_like(highest, dtype=torch.uint8)
    for index, plane in enumerate(logits.unbind(dim=1)):
        higher = (plane > highest).view(torch.uint8)
        classes = torch.maximum(classes, higher * index)
        highest = torch.maximum(highest, plane)
    return classes


def confusion(logits: Tensor, target: Tensor, options: Options) -> Statistics:
    """Pixel counts `matrix` (classes, classes) int64, row = label, column = prediction; 255
    ignored.
    """
    known, classes = target != IGNORE, logits.shape[0]
    found = most_likely_class(logits[None])[0][known]
    cells = torch.bincount(target[known].long() * classes + found, minlength=classes**2)
    return {"matrix": cells.reshape(classes, classes).cpu().numpy()}


def intersection_over_union(statistics: Sequence[Statistics], options: Options) -> dict[str, float]:
    """`mIoU`: mean over the classes that occur in the labels of TP / (TP + FP + FN), and each
    class's.

    The others have no value (nan), whatever a system predicts of them, so that all systems are
    divided by the same number. `mIoU/all` is the field's division by all classes (a class that
    occurs nowhere counts 0), which is the same where every class occurs. Without labels: nan.
    """
    if not statistics:
        return {"mIoU": math.nan, "mIoU/all": math.nan}
    matrix = np.sum([s["matrix"] for s in statistics], axis=0)
    hits = np.diag(matrix).astype(np.float64)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - hits
    occurs = matrix.sum(axis=1) > 0
    per_class = np.divide(hits, union, out=np.full(len(hits), np.nan), where=occurs)
    total = float(np.nansum(per_class)) if occurs.any() else math.nan
    means = {"mIoU": total / max(int(occurs.sum()), 1), "mIoU/all": total / len(hits)}
    return means | {f"IoU/{i}": float(v) for i, v in enumerate(per_class)}


def as_curve(thresholds: Sequence[float] | np.ndarray, *ratios: np.ndarray) -> Curve:
    """Plain lists of six decimals: thresholds, recall and precision."""
    names = ("thresholds", "recall", "precision")
    columns = (np.asarray(thresholds, float), *ratios)
    return {name: column.round(6).tolist() for name, column in zip(names, columns)}


def mean_of(statistics: Sequence[Statistics]) -> float:
    """Pooled mean of `sum` over `count`; nan where nothing was counted."""
    count = sum(int(s["count"]) for s in statistics)
    return math.fsum(float(s["sum"]) for s in statistics) / count if count else math.nan


def cut_out(logits: Tensor, size: Sequence[int], inside: Sequence[int]) -> Tensor:
    """Of logits (B, C, h, w) of an image of this size what shows the picture that stands `inside`
    it (top, bottom, left, right); all of them where nothing is around it.
    """
    top, bottom, left, right = inside
    if (bottom - top, right - left) == tuple(size):
        return logits
    return at_size(logits, (size[0], size[1]))[..., top:bottom, left:right]


def at_size(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (B, C, h, w) bilinear to (H, W), unless already so.

    On the CPU by OpenCV, which rounds differently (1e-6 of a value) and takes a fifth of the time.
    """
    if tuple(logits.shape[-2:]) == size:
        return logits
    if logits.device.type != "cpu":
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    larger = np.empty((*logits.shape[:2], *size), logits.numpy().dtype)
    planes = logits.contiguous().numpy().reshape(-1, *logits.shape[2:])
    for plane, target in zip(planes, larger.reshape(-1, *size)):
        cv2.resize(plane, size[::-1], dst=target, interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(larger)
