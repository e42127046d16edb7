"""Any network that makes maps as a backbone: four maps at strides 4 to 32, of any picture.

The picture is padded once, at its right and bottom, to a size that the network takes, and what
shows the padding is cut off: so the maps have the sizes of our own backbones, ceil(side / stride),
whether a network rounds up, down or not at all.

A plain vision transformer has maps of one stride only. Four of them become a pyramid as in DPT
(Ranftl et al., arXiv 2103.13413): the earliest is enlarged most. Unusual: where its patches are not
of 16 pixels (DINOv2: 14), the maps are resampled by the ratio of the strides, exactly in place.

Shapes: B images, (H, W) the picture, (h, w) patches of p pixels, C channels of the transformer.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)
SMALLEST = 8  # times fewer channels at stride 4 than in the transformer, then 4, 2, 1


class Pyramid(nn.Module):
    """A network between padding and cutting.

    Args:
        body: (B, 3, H', W') -> four maps; H' and W' are multiples of `multiple`.
        channels: of what comes out.
        multiple: of pixels, itself one of 32 unless a neck brings the maps to the strides.
        channels_last: the maps of the body are (B, h, w, C).
        neck: makes four maps at strides 4 to 32, or a little more of them, of those of the body.
    """

    def __init__(
        self,
        body: nn.Module,
        channels: Sequence[int],
        multiple: int = STRIDES[-1],
        channels_last: bool = False,
        neck: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.body, self.neck = body, neck or nn.Identity()
        self.channels, self.multiple, self.channels_last = tuple(channels), multiple, channels_last

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> four maps (B, channels[i], H / 2^(i+2), W / 2^(i+2)), rounded up."""
        height, width = image.shape[-2:]
        right, bottom = (self._padded(side) - side for side in (width, height))
        maps = self.body(F.pad(image, (0, right, 0, bottom)))
        if self.channels_last:
            maps = [x.permute(0, 3, 1, 2) for x in maps]
        return [
            x[..., : -(-height // stride), : -(-width // stride)]
            for x, stride in zip(self.neck(maps), STRIDES)
        ]

    def _padded(self, side: int) -> int:
        """The least multiple that holds whole cells of every stride."""
        cells = -(-side // STRIDES[-1]) * STRIDES[-1]
        return -(-cells // self.multiple) * self.multiple


class Reassembly(nn.Module):
    """Four maps of one stride -> four maps at strides 4 to 32, with C/8, C/4, C/2 and C channels.

    Args:
        inputs: C.
        patch: p, pixels between two cells of the maps that come in.
    """

    def __init__(self, inputs: int, patch: int) -> None:
        super().__init__()
        self.channels = tuple(max(1, inputs // (SMALLEST >> i)) for i in range(len(STRIDES)))
        self.ratio = patch / 16
        first, second, third, last = self.channels
        self.scales = nn.ModuleList([
            nn.Sequential(nn.Conv2d(inputs, first, 1), nn.ConvTranspose2d(first, first, 4, 4)),
            nn.Sequential(nn.Conv2d(inputs, second, 1), nn.ConvTranspose2d(second, second, 2, 2)),
            nn.Conv2d(inputs, third, 1),
            nn.Sequential(nn.Conv2d(inputs, last, 1), nn.Conv2d(last, last, 3, 2, padding=1)),
        ])  # fmt: skip

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Four (B, C, h, w) -> (B, channels[i], 4h, 4w), (2h, 2w), (h, w) and (h, w) / 2, each
        times p / 16.
        """
        scaled = [layer(x) for layer, x in zip(self.scales, maps, strict=True)]
        if self.ratio == 1:
            return scaled
        return [
            F.interpolate(x, scale_factor=self.ratio, mode="bilinear", align_corners=False)
            for x in scaled
        ]
