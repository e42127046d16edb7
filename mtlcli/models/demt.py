"""DeMT's decoder and its attention blocks (Xu et al., AAAI 2023, arXiv 2301.03461).

Shapes: B images, T tasks, (H, W) the finest backbone map, C channels of the decoder.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mtlcli.models.attention import Attention


def small_mlp(width: int) -> nn.Sequential:
    """DeMT's "MLP": one linear map and a LayerNorm."""
    return nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))


class TaskInteraction(nn.Module):
    """Attention among the tokens of all tasks, then a small MLP; no residual, as released."""

    def __init__(self, width: int, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = small_mlp(width)

    def forward(self, x_BTHWC: Tensor) -> Tensor:
        tokens = x_BTHWC.flatten(2, 3)  # B, T, H * W, C
        return self.mlp(self.attention(tokens, tokens)).view(x_BTHWC.shape)


class TaskQuery(nn.Module):
    """One task asks all tasks: its own map plus what attention finds in the refined ones."""

    def __init__(self, width: int, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = small_mlp(width)

    def forward(self, x_BHWC: Tensor, refined_BTHWC: Tensor) -> Tensor:
        queries = x_BHWC.flatten(1, 2)[:, None]  # B, 1, H * W, C
        found = self.attention(queries, refined_BTHWC.flatten(2, 3))
        return x_BHWC + self.mlp(found).view(x_BHWC.shape)


class TaskQueries(nn.Module):
    """A query block for each task."""

    def __init__(self, blocks: Iterable[TaskQuery]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x_BTHWC: Tensor, refined_BTHWC: Tensor) -> Tensor:
        answers = [block(x, refined_BTHWC) for block, x in zip(self.blocks, x_BTHWC.unbind(1))]
        return torch.stack(answers, 1)


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
