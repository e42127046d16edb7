"""Fixed position codes and reference points of a map's cells."""

import math

import torch
from torch import Tensor

TEMPERATURE = 10000.0


def sine_code(height: int, width: int, channels: int, like: Tensor) -> Tensor:
    """(height, width, channels): sines and cosines of the row, then of the column (DETR).

    Coordinates are cell centres scaled to (0, 2 pi) (Carion et al., arXiv 2005.12872, normalised
    as in Deformable-DETR). `channels` is a multiple of 4; type and device are those of `like`.
    """
    half = channels // 2
    rows = _axis_code(height, half, like)[:, None].expand(height, width, half)
    columns = _axis_code(width, half, like)[None].expand(height, width, half)
    return torch.cat((rows, columns), -1)


def cell_centres(height: int, width: int, like: Tensor) -> Tensor:
    """(height * width, 2): each cell's centre (x, y) in [0, 1], in raster order."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    y = (torch.arange(height, dtype=dtype, device=like.device) + 0.5) / height
    x = (torch.arange(width, dtype=dtype, device=like.device) + 0.5) / width
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)), -1).view(-1, 2)


def _axis_code(length: int, channels: int, like: Tensor) -> Tensor:
    """(length, channels): sine and cosine pairs of falling frequency."""
    place = (torch.arange(length, device=like.device) + 0.5) / length * 2 * math.pi
    exponent = torch.arange(0, channels, 2, device=like.device) / channels
    angle = place[:, None] / TEMPERATURE**exponent
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(1).to(like.dtype)
