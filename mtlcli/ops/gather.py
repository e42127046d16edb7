"""Bilinear sampling as gathered rows and arithmetic, for exported files: all runtimes compute it
alike. (GridSample is read otherwise than meant by some, and wrongly optimised by others.)

A table holds, for each pixel, the four corners of the cell to its lower right, so that a sample is
one row of it; what lies outside a map is a clamp of its position, on a map with a rim of zeros if
it reads as zero. Letters as in `mtlcli.ops.reference`.
"""

from collections.abc import Sequence
from itertools import accumulate, groupby

import torch
import torch.nn.functional as F
from torch import Tensor

BYTES_AT_ONCE = 2**22
"""Of gathered rows of one picture, about what a core keeps near,"""
PIECES = 128
"""unless that makes more pieces of the queries than these, each some nodes of the graph."""


def deformable_attention(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    border: str = "clamp",
) -> Tensor:
    """See `mtlcli.ops.deformable_attention`; offsets are float32 or wider and finite."""
    batch, queries, heads, _, _ = logits.shape
    channels, rim = value.shape[3], int(border == "zeros")
    share_BNMLP = logits.flatten(3).softmax(-1).view(logits.shape)
    full = [i for i, (height, width) in enumerate(shapes) if height * width]
    if not full:
        return value.new_zeros(batch, queries, heads * channels)
    if len(full) < len(shapes):
        offsets, share_BNMLP = offsets[:, :, :, full], share_BNMLP[:, :, :, full]
        shapes = [shapes[i] for i in full]
    points = logits.shape[4]
    maps = value
    if rim:
        areas = [height * width for height, width in shapes]
        parts = zip(value.split(areas, 1), shapes)
        maps = torch.cat([with_rim(rows.unflatten(1, shape)) for rows, shape in parts], 1)
    shapes = [(height + 2 * rim, width + 2 * rim) for height, width in shapes]
    rows = corners(maps, shapes).flatten(0, 2)  # B * S * M, 4 * D
    # From here on K = M * L * P samples of a query are one axis, which runtimes are quick along.
    size_2K = offsets.new_tensor(shapes).T.repeat_interleave(points, 1).repeat(1, heads)
    x, y = (
        (reference[:, axis, None] * (size_2K[1 - axis] - 2 * rim) + (rim - 0.5)) + step
        for axis, step in enumerate(offsets.flatten(2, 4).unbind(-1))
    )
    pixel, weight_BNK4 = locate(x, y, size_2K, share_BNMLP.flatten(2))
    starts = [0, *accumulate(height * width * heads for height, width in shapes)]
    picture_B = torch.arange(batch, device=value.device, dtype=torch.int32) * starts[-1]
    firsts = [first + head for head in range(heads) for first in starts[:-1]]
    start_BK = picture_B[:, None] + picture_B.new_tensor(firsts).repeat_interleave(points)
    index_BNMS = (pixel.int() * heads + start_BK[:, None]).unflatten(2, (heads, -1))
    weight_BNM1S = weight_BNK4.to(value.dtype).view(batch, queries, heads, 1, -1)
    needed = rows.element_size() * rows.shape[1] * index_BNMS[0, 0].numel()  # bytes of a query
    step = max(1, BYTES_AT_ONCE // needed, -(-queries // PIECES))
    read = [
        torch.matmul(weight, F.embedding(where, rows).unflatten(-1, (4, -1)).flatten(3, 4))
        for where, weight in zip(index_BNMS.split(step, 1), weight_BNM1S.split(step, 1))
    ]
    return torch.cat(read, 1).view(batch, queries, heads * channels)


def sample_planes(planes_BHW: Tensor, x_BHW: Tensor, y_BHW: Tensor) -> Tensor:
    """Every plane read at (x, y) in pixels, zero outside: (B, H, W)."""
    planes, height, width = planes_BHW.shape
    rows = corners(with_rim(planes_BHW[..., None]), [(height + 2, width + 2)])
    size = x_BHW.new_tensor((height + 2, width + 2))
    index, weight_BHW4 = locate(x_BHW + 1, y_BHW + 1, size)
    start = torch.arange(planes, device=rows.device, dtype=torch.int32) * rows.shape[1]
    read_BHW4 = F.embedding(index.int() + start[:, None, None], rows.flatten(0, 1))
    return (read_BHW4 * weight_BHW4).sum(-1)


def with_rim(maps_BHWx: Tensor) -> Tensor:
    """Rows (B, (H + 2) (W + 2), ...) of maps (B, H, W, ...), with zeros around."""
    return F.pad(maps_BHWx, (*[0, 0] * (maps_BHWx.dim() - 3), 1, 1, 1, 1)).flatten(1, 2)


def corners(rows_BSxD: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
    """Each pixel's own value, its right neighbour's, the lower one's and that between, (B, S, ...,
    4 D), of the rows (B, S, ..., D) of maps one after the other. At a map's right and lower edge
    it is what follows there, which no place inside a map gives any weight.
    """
    total, widest = rows_BSxD.shape[1], max(width for _, width in shapes)
    more = F.pad(rows_BSxD, (*[0, 0] * (rows_BSxD.dim() - 2), 0, widest + 1))
    below: list[list[Tensor]] = [[], []]
    end = 0
    for width, same in groupby(shapes, key=lambda shape: shape[1]):
        start, end = end, end + sum(height * width for height, _ in same)
        for right, kept in enumerate(below):
            kept.append(more[:, start + width + right : end + width + right])
    upper = (rows_BSxD, more[:, 1 : total + 1])
    return torch.cat((*upper, *(torch.cat(kept, 1) for kept in below)), -1)


def locate(
    x: Tensor, y: Tensor, size: Tensor, share: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    """Rows of a map's table, and the weights of their corners times `share` (..., 4), for places in
    pixels; `size` is (height, width), each in a shape that broadcasts to the places.
    """
    height, width = size
    (column, right), (line, below) = _cell(x, width), _cell(y, height)
    lower = below * share
    upper = share - lower
    upper_right, lower_right = upper * right, lower * right
    weight = (upper - upper_right, upper_right, lower - lower_right, lower_right)
    return line * width + column, torch.stack(weight, -1)


def _cell(place: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """The last whole pixel at or before a place on an axis, and how far on the place is."""
    inside = torch.minimum(place.clamp(min=0), length - 1)
    first = inside.floor()
    return first, inside - first
