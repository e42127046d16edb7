"""Deformable attention in operators that exported files know: `grid_sample` of maps of one size.

Slower and larger than the others, but without loops over images or chunks of queries, so that the
number of images stays open in the file and the graph small.
"""

from collections.abc import Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = {"clamp": "border", "zeros": "zeros"}
POINTS_AT_ONCE = 2
"""Points read by one `grid_sample`: more take more memory, fewer make the graph longer."""


def deformable_attention(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    border: str = "clamp",
) -> Tensor:
    """See `mtlcli.ops.deformable_attention`; offsets must be finite, float32 or wider."""
    batch, queries, heads, _, _ = logits.shape
    channels = value.shape[3]
    exact = torch.promote_types(value.dtype, offsets.dtype)
    share = logits.flatten(3).softmax(-1).view(logits.shape).permute(0, 3, 2, 1, 4)  # B, L, M, N, P
    steps = offsets.to(exact).permute(0, 3, 2, 1, 4, 5)  # B, L, M, N, P, 2
    start = (2 * reference.to(exact) - 1)[:, None]  # N, 1, 2
    out = value.new_zeros(batch, heads, channels, queries, dtype=exact)
    row = level = 0
    for (height, width), same in groupby(shapes):
        maps = len(list(same))
        rows = value[:, row : row + maps * height * width].to(exact)
        planes = rows.view(batch, maps, height * width, heads, channels).permute(0, 1, 3, 4, 2)
        size = steps.new_tensor([2 / max(width, 1), 2 / max(height, 1)])
        here = slice(level, level + maps)
        if height * width > 0:
            grid, weight = start + steps[:, here] * size, share[:, here]
            planes = planes.reshape(-1, channels, height, width)
            out = out + _read(planes, grid, weight, PADDING[border])
        row, level = row + maps * height * width, level + maps
    return out.flatten(1, 2).transpose(1, 2).to(value.dtype)


def _read(planes: Tensor, grid: Tensor, weight: Tensor, padding: str) -> Tensor:
    """Maps (B * k * M, D, H, W) at grid (B, k, M, N, P, 2), weighed by (B, k, M, N, P) and summed
    over maps and points: (B, M, D, N).
    """
    batch, maps, heads, queries, _ = weight.shape
    pieces = zip(
        grid.flatten(0, 2).split(POINTS_AT_ONCE, 2),
        weight.flatten(0, 2)[:, None].split(POINTS_AT_ONCE, 3),
    )
    total = planes.new_zeros(())
    for places, share in pieces:
        read = F.grid_sample(planes, places, padding_mode=padding, align_corners=False)
        total = total + (read * share).sum(-1)  # B * k * M, D, N
    return total.view(batch, maps, heads, -1, queries).sum(1)
