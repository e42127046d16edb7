"""The prediction head of every system, and the stack of maps that the baselines put under it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def hypercolumn(maps: Sequence[Tensor]) -> Tensor:
    """Maps (B, C_i, H_i, W_i), finest first -> (B, sum of C_i, H_0, W_0), bilinear."""
    size = maps[0].shape[-2:]
    resized = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in maps[1:]]
    return torch.cat([maps[0], *resized], 1)


class ConvHead(nn.Module):
    """(B, inputs, H, W) -> logits (B, outputs, H, W).

    Args:
        inputs: channels that come in.
        hidden: channels in between.
        outputs: logits of each pixel.
        deviation: of the random weights that make the logits; ATRC's 0.01 starts them near zero.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, deviation: float = 0.01) -> None:
        super().__init__()
        self.bottleneck = nn.Sequential(
            nn.Conv2d(inputs, hidden, 3, padding=1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU()
        )
        self.logits = nn.Conv2d(hidden, outputs, 1)
        nn.init.normal_(self.logits.weight, std=deviation)
        nn.init.zeros_(self.logits.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.bottleneck(x))
