"""All maps of a backbone as one: resized to the finest and stacked along the channels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def hypercolumn(maps: Sequence[Tensor]) -> Tensor:
    """Maps (B, C_i, H_i, W_i), finest first -> (B, sum of C_i, H_0, W_0), bilinear."""
    size = maps[0].shape[-2:]
    resized = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in maps[1:]]
    return torch.cat([maps[0], *resized], 1)
