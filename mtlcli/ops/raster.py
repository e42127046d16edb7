"""How queries and maps lie, for kernels that take them in tiles."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor


def raster(shapes: Sequence[tuple[int, int]], queries: int) -> tuple[int, int]:
    """The (height, width) that queries repeat: the largest map's, or one long line.

    It decides only which queries share a tile, never a result.
    """
    height, width = max(shapes, key=lambda shape: shape[0] * shape[1])
    if height * width and queries % (height * width) == 0:
        return height, width
    return 1, queries


@cache
def map_table(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """int32 (L, 3): height, width and first row of each map; kept, as copying it would wait, and
    for good, as recorded CUDA graphs read it.
    """
    shapes = torch.tensor(sizes, dtype=torch.int64).view(-1, 2)
    areas = shapes.prod(1)
    return torch.column_stack((shapes, areas.cumsum(0) - areas)).int().to(device)
