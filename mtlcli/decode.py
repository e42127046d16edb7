"""From a network's logits (B, C, H, W) to predictions; one function per kind of map."""

import torch
from torch import Tensor
from torch.nn import functional as F


def most_likely_class(logits: Tensor) -> Tensor:
    """(B, H, W) uint8 class indices."""
    return logits.argmax(dim=1).to(torch.uint8)


def foreground_probability(logits: Tensor) -> Tensor:
    """(B, 1, H, W) softmax probability of class 1."""
    return logits.float().softmax(dim=1)[:, 1:2]


def non_negative(logits: Tensor) -> Tensor:
    """(B, 1, H, W) metres, negative depths cut to 0."""
    return logits.float().clamp(min=0)


def unit_vectors(logits: Tensor) -> Tensor:
    """(B, 3, H, W) vectors of length 1."""
    return F.normalize(logits.float(), dim=1)


def probability(logits: Tensor) -> Tensor:
    """(B, 1, H, W) sigmoid."""
    return logits.float().sigmoid()
