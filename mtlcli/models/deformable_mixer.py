"""DeMT's deformable mixer (Xu et al., AAAI 2023, arXiv 2301.03461): mixes channels and space.

Kept as released: one half of the sampling convolution sees only rows, the other only columns, and
each channel reads its (dy, dx) from two neighbouring outputs. The released offsets are also made of
absolute coordinates, so that they begin tens of pixels long and many points lie outside, where they
read 0; `relative` coordinates begin at the pixel itself.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mtlcli.errors import InputError
from mtlcli.ops.channels import sample_channels
from mtlcli.ops.devices import full_precision

Coordinates = Literal["absolute", "relative"]
TAPS = 9
"""Points of the 3x3 neighbourhood whose coordinates the offsets are made of."""


class DeformableMixer(nn.Module):
    """(B, width, H, W) -> the same shape: pointwise mixing, then a residual of sampled channels.

    Args:
        width: channels.
        space_first: the other way round, as an earlier release of DeMT's code has it.
        coordinates: that the offsets start from, `absolute` as released or `relative`.

    Raises:
        InputError: unknown coordinates.
    """

    def __init__(
        self, width: int, space_first: bool = False, coordinates: Coordinates = "absolute"
    ) -> None:
        super().__init__()
        self.space_first = space_first
        self.channel = nn.Sequential(nn.Conv2d(width, width, 1), nn.GELU(), nn.BatchNorm2d(width))
        self.spatial = nn.Sequential(
            ChannelSampling(width, coordinates), nn.GELU(), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.space_first:
            return self.channel(x + self.spatial(x))
        x = self.channel(x)
        return x + self.spatial(x)


class ChannelSampling(nn.Module):
    """Every channel of every pixel is read at its own offset, then channels are mixed linearly.

    Equals a deformable convolution with a 1x1 kernel and one offset group per input channel.
    """

    def __init__(self, width: int, coordinates: Coordinates) -> None:
        super().__init__()
        if coordinates not in get_args(Coordinates):
            known = " or ".join(get_args(Coordinates))
            raise InputError(f"Mixer coordinates are {known}, not '{coordinates}'.")
        self.absolute = coordinates == "absolute"
        self.correction = nn.Conv2d(width, 2 * TAPS, 3, padding=1)
        nn.init.zeros_(self.correction.weight)
        self.offsets = nn.Conv2d(2 * TAPS, 2 * width, 3, padding=1, groups=2)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x.device):
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            offsets = self.offsets(coordinates(wide, self.absolute) + self.correction(wide))
            sampled = sample_channels(wide, offsets)
        return self.mix(sampled.to(x.dtype))


def coordinates(x: Tensor, absolute: bool) -> Tensor:
    """(1, 18, H, W): rows, then columns, of each pixel's 3x3 neighbours, counted from 1 in the map
    (`absolute`) or from -1 in the neighbourhood.
    """
    height, width = x.shape[-2:]
    step = torch.arange(-1, 2, dtype=x.dtype, device=x.device)
    row = torch.arange(1, height + 1, dtype=x.dtype, device=x.device) * int(absolute)
    column = torch.arange(1, width + 1, dtype=x.dtype, device=x.device) * int(absolute)
    rows = step.repeat_interleave(3)[:, None, None] + row[:, None]
    columns = step.repeat(3)[:, None, None] + column
    shape = (TAPS, height, width)
    return torch.cat((rows.expand(shape), columns.expand(shape)))[None]
