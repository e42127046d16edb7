"""The gradient of deformable attention's value without atomic additions: the same in every run."""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlcli.ops.fused import Attention
from mtlcli.ops.reference import taps


def value_gradient(attention: Attention, lse: Tensor, grad_out: Tensor) -> Tensor:
    """Float32 (B, S, M, D): each pixel's taps, sorted by query, are summed one after the other.

    lse: (B, N, M), the log of the sum of each softmax; grad_out: (B, N, M * D).
    """
    rows = grad_out.unflatten(-1, (lse.shape[2], -1)).float()  # B, N, M, D
    areas = [height * width for height, width in attention.shapes]
    grad_value = lse.new_zeros(len(rows), sum(areas), *rows.shape[2:])
    for image, head in product(range(len(rows)), range(rows.shape[2])):
        parts = grad_value[image, :, head].split(areas)
        for level, shape in enumerate(attention.shapes):
            steps = attention.offsets[image, :, head, level, None, None]
            logits = attention.logits[image, :, head, level].float()
            share = (logits - lse[image, :, head, None]).exp()
            pixel, weight = taps(steps, attention.reference, (shape,), attention.border)
            weight = weight.view(*share.shape, 4) * share[..., None]
            _sum_by_pixel(pixel, weight, rows[image, :, head], parts[level])
    return grad_value


def _sum_by_pixel(pixel: Tensor, weight: Tensor, gradients: Tensor, into: Tensor) -> None:
    """Write to `into` (pixels, D) each pixel's sum of weight (N, P, 4) times gradient (N, D)."""
    if not into.numel():
        return
    pixel, order = pixel.flatten().sort(stable=True)
    query = order // weight[0].numel()
    starts = torch.searchsorted(pixel, torch.arange(len(into), device=pixel.device))
    into.copy_(
        F.embedding_bag(
            query, gradients, starts, per_sample_weights=weight.flatten()[order], mode="sum"
        )
    )
