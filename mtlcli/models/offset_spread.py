"""How far deformable attention looks, and how much of it falls outside the maps."""

from collections.abc import Sequence

import torch
from torch import Tensor

EVERY = 7  # queries of the first image; all of them would cost as much as the attention


@torch.no_grad()
def offset_spread(
    reference: Tensor, offsets: Tensor, shapes: Sequence[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    """Mean displacement in pixels and share of points outside, per resolution, finest first.

    Args:
        reference: (N, 2), (x, y) in [0, 1].
        offsets: (B, N, M, L, P, 2), (x, y) in pixels of each of the L maps.
        shapes: the maps' (H, W); those of one shape are counted together.

    Returns:
        two float32 tensors (R,), for the R different shapes.
    """
    some = offsets[0, ::EVERY].float()  # n, M, L, P, 2
    size = torch.tensor([(w, h) for h, w in shapes], device=some.device)[:, None]  # L, 1, 2
    place = reference[::EVERY, None, None, None].float() + some / size
    outside = ((place < 0) | (place > 1)).any(-1).float().mean((0, 1, 3))  # L
    pixels = some.norm(dim=-1).mean((0, 1, 3))  # L
    levels = sorted(set(shapes), reverse=True)
    members = [[i for i, shape in enumerate(shapes) if shape == level] for level in levels]
    return (
        torch.stack([pixels[chosen].mean() for chosen in members]),
        torch.stack([outside[chosen].mean() for chosen in members]),
    )
