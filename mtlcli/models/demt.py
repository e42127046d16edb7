"""DeMT's decoder (Xu et al., AAAI 2023, arXiv 2301.03461) around any interaction block.

Shapes: B images, T tasks, (H, W) the finest backbone map, C channels of the decoder.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class InteractionDecoder(nn.Module):
    """Backbone features -> one map per task that knows of the others.

    Args:
        inputs: channels of the hypercolumn.
        width: C.
        mixers: one per task, each (B, C, H, W) -> the same shape.
        interaction: (B, T, H, W, C) -> the same shape, refined.
        queries: both of these -> (B, T, H, W, C).
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        mixers: Iterable[nn.Module],
        interaction: nn.Module,
        queries: nn.Module,
    ) -> None:
        super().__init__()
        self.projection = nn.Sequential(nn.Linear(inputs, width), nn.LayerNorm(width))
        self.mixers = nn.ModuleList(mixers)
        self.interaction, self.queries = interaction, queries

    def forward(self, features: Tensor) -> list[Tensor]:
        """(B, inputs, H, W) -> T maps (B, C, H, W)."""
        x = self.projection(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        mixed = torch.stack([mixer(x) for mixer in self.mixers], 1).permute(0, 1, 3, 4, 2)
        mixed = mixed.contiguous()  # B, T, H, W, C
        answers = self.queries(mixed, self.interaction(mixed))
        return list(answers.permute(0, 1, 4, 2, 3).unbind(1))
