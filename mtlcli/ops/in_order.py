"""The gradient of deformable attention's value without atomic additions: the same in every run."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlcli.ops.reference import taps


def value_gradient(
    shapes: Sequence[tuple[int, int]],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    lse: Tensor,
    grad_out: Tensor,
    border: str,
) -> Tensor:
    """Float32 (B, S, M, D): each pixel's taps, sorted by query, are summed one after the other.

    Args:
        shapes, reference, offsets, logits, border: as in `mtlcli.ops.deformable_attention`.
        lse: (B, N, M), the log of the sum of each softmax.
        grad_out: (B, N, M, D).
    """
    batch, _, heads, channels = grad_out.shape
    areas = [height * width for height, width in shapes]
    grad_value = lse.new_zeros(batch, sum(areas), heads, channels)
    for image in range(batch):
        for head in range(heads):
            gradients = grad_out[image, :, head].float()
            parts = grad_value[image, :, head].split(areas)
            for level, shape in enumerate(shapes):
                steps = offsets[image, :, head, level, None, None]
                share = (logits[image, :, head, level].float() - lse[image, :, head, None]).exp()
                pixel, weight = taps(steps, reference, (shape,), border)
                weight = weight.view(*share.shape, 4) * share[..., None]
                _sum_by_pixel(pixel, weight, gradients, parts[level])
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
