"""Bilinear sampling as gathered rows and arithmetic, for exported files: all runtimes compute it
alike. (GridSample is read otherwise than meant by some, and wrongly optimised by others.)

A table holds, for each pixel, the four corners of the cell to its lower right, so that a sample is
one row of it; what lies outside a map is a clamp of its position, on a map with a rim of zeros if
it reads as zero. Letters as in `mtlcli.ops.reference`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BYTES_AT_ONCE = 2**24
"""Of gathered rows of one picture,"""
PIECES = 128
"""unless that makes more pieces of the queries than these, each some nodes of the graph."""
WHOLE = 2**24
"""Rows up to which float32 counts exactly."""


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
    points, areas = logits.shape[4], [height * width for height, width in shapes]
    maps = zip(value.split(areas, 1), shapes)
    tables = [corners(rows.unflatten(1, shape), rim).flatten(1, 2) for rows, shape in maps]
    rows = torch.cat(tables, 1).flatten(0, 2)  # B * S * M, 4 * D
    # From here on K = M * L * P samples of a query are one axis, which runtimes are quick along.
    pixels = sum(table.shape[1] for table in tables)
    if pixels * heads > WHOLE:
        offsets = offsets.double()
    size_2K = offsets.new_tensor(shapes).T.repeat_interleave(points, 1).repeat(1, heads)
    starts = [sum(table.shape[1] for table in tables[:level]) for level in range(len(tables))]
    first_K = offsets.new_tensor(starts).repeat_interleave(points).repeat(heads)
    head_K = torch.arange(heads, device=value.device).repeat_interleave(points * len(shapes))
    step_BNK2 = offsets.flatten(2, 4)
    x, y = (
        (reference[:, axis, None] * size_2K[1 - axis] - 0.5) + step_BNK2[..., axis]
        for axis in (0, 1)
    )
    pixel, weight_BNK4 = locate(x, y, size_2K, rim, share_BNMLP.flatten(2))
    picture = torch.arange(batch, device=value.device, dtype=torch.int32)[:, None, None]
    index_BNK = ((pixel + first_K) * heads + head_K).int() + picture * (pixels * heads)
    needed = rows.element_size() * rows.shape[1] * index_BNK[0, 0].numel()  # bytes of a query
    step = max(1, BYTES_AT_ONCE // needed, -(-queries // PIECES))
    read = [
        torch.matmul(
            some.unflatten(2, (heads, -1)).flatten(3)[..., None, :],
            F.embedding(where.unflatten(2, (heads, -1)), rows).unflatten(-1, (4, -1)).flatten(3, 4),
        )
        for where, some in zip(index_BNK.split(step, 1), weight_BNK4.to(value.dtype).split(step, 1))
    ]
    return torch.cat(read, 1).view(batch, queries, heads * channels)


def sample_planes(planes_BHW: Tensor, x_BHW: Tensor, y_BHW: Tensor) -> Tensor:
    """Every plane read at (x, y) in pixels, zero outside: (B, H, W)."""
    table_BHWC = corners(planes_BHW[..., None], rim=1)
    size = x_BHW.new_tensor(planes_BHW.shape[1:])
    index, weight = locate(x_BHW, y_BHW, size, rim=1)
    plane = torch.arange(planes_BHW.shape[0], device=planes_BHW.device)[:, None, None]
    area = table_BHWC.shape[1] * table_BHWC.shape[2]
    return (F.embedding((plane * area + index).int(), table_BHWC.flatten(0, 2)) * weight).sum(-1)


def corners(maps_BHWx: Tensor, rim: int) -> Tensor:
    """Each pixel's own value, its right neighbour's, the lower one's and that between: (B, H + 2
    rim, W + 2 rim, ..., 4 D) of (B, H, W, ..., D); beyond the edge the edge itself.
    """
    if rim:
        kept = [0, 0] * (maps_BHWx.dim() - 3)
        maps_BHWx = F.pad(maps_BHWx, (*kept, rim, rim, rim, rim))
    right = torch.cat((maps_BHWx[:, :, 1:], maps_BHWx[:, :, -1:]), 2)
    upper = torch.cat((maps_BHWx, right), -1)
    return torch.cat((upper, torch.cat((upper[:, 1:], upper[:, -1:]), 1)), -1)


def locate(
    x: Tensor, y: Tensor, size: Tensor, rim: int, share: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    """Rows of a map's table, and the weights of their corners times `share` (..., 4), for places in
    pixels; `size` is (height, width), each in a shape that broadcasts to the places.
    """
    height, width = size + 2 * rim
    (column, right), (line, below) = _cell(x + rim, width), _cell(y + rim, height)
    below, above = below * share, (1 - below) * share
    left = 1 - right
    weight = torch.stack((above * left, above * right, below * left, below * right), -1)
    return line * width + column, weight


def _cell(place: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """The last whole pixel at or before a place on an axis, and how far on the place is."""
    inside = torch.minimum(place.clamp(min=0), length - 1)
    first = inside.floor()
    return first, inside - first
