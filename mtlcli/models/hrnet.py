"""HRNet-V2 (Wang et al., arXiv 1908.07919): four resolutions side by side, often exchanged.

Parameter names are those of the official release without its classification part, so its weights
load strictly. As in the dense networks made of it (mmsegmentation, ATRC, DeMT), a coarser map is
enlarged by the power of two between the strides and then, where the image's sides are no multiples
of 32, resized to the map it is added to, both bilinearly; the official classifier enlarges by
repetition and takes multiples of 32 only.
"""

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from mtlcli.models.resnet import BasicBlock, Bottleneck


class HRNet(nn.Module):
    """Stem at stride 4, one bottleneck stage, then stages of two, three and four resolutions.

    Args:
        channels: of the four branches, at strides 4, 8, 16 and 32.
        exchanges: how many exchange modules the stages with two, three and four branches have.
        bottlenecks: blocks of the first stage.
        blocks: residual blocks of a branch between two exchanges.
    """

    def __init__(
        self, channels: Sequence[int], exchanges: Sequence[int], bottlenecks: int, blocks: int
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.conv1 = _conv3x3(3, 64, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = _conv3x3(64, 64, stride=2)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _bottleneck_stage(64, bottlenecks)
        self.transition1 = _transition([256], self.channels[:2])
        self.stage2 = _stage(self.channels[:2], exchanges[0], blocks)
        self.transition2 = _transition(self.channels[:2], self.channels[:3])
        self.stage3 = _stage(self.channels[:3], exchanges[1], blocks)
        self.transition3 = _transition(self.channels[:3], self.channels)
        self.stage4 = _stage(self.channels, exchanges[2], blocks)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> four maps (B, channels[i], H / 2^(i+2), W / 2^(i+2)), rounded up."""
        x = self.relu(self.bn1(self.conv1(image)))
        x = self.relu(self.bn2(self.conv2(x)))
        maps = [self.layer1(x)]
        maps = self.stage2(_enter(self.transition1, maps))
        maps = self.stage3(_enter(self.transition2, maps))
        return self.stage4(_enter(self.transition3, maps))


class ExchangeModule(nn.Module):
    """Residual blocks on every branch, then each branch receives the sum of all of them."""

    def __init__(self, channels: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, width) for _ in range(blocks))) for width in channels
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_route(channels, source, target) for source in range(len(channels)))
            for target in range(len(channels))
        )
        self.relu = nn.ReLU(inplace=False)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps of this stage's channels, finest first -> maps of the same shapes."""
        maps = [branch(x) for branch, x in zip(self.branches, maps)]
        return [self.relu(_arrive(routes, maps, at)) for routes, at in zip(self.fuse_layers, maps)]


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def _unit(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs), nn.ReLU(True))


def _bottleneck_stage(width: int, blocks: int) -> nn.Sequential:
    widen = nn.Sequential(nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width))
    first = Bottleneck(width, width, downsample=widen)
    return nn.Sequential(first, *(Bottleneck(4 * width, width) for _ in range(blocks - 1)))


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """Adapts the branches there are and opens one more at half the coarsest resolution."""
    kept = [
        nn.Identity() if old == new else _unit(old, new, stride=1)
        for old, new in zip(before, after)
    ]
    opened = nn.Sequential(_unit(before[-1], after[-1], stride=2))
    return nn.ModuleList([*kept, opened])


def _enter(transition: nn.ModuleList, maps: list[Tensor]) -> list[Tensor]:
    sources = [*maps, maps[-1]]
    return [layer(x) for layer, x in zip(transition, sources)]


def _stage(channels: Sequence[int], exchanges: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ExchangeModule(channels, blocks) for _ in range(exchanges)))


def _route(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """The layers a map passes on its way to another branch."""
    if source == target:
        return nn.Identity()
    start, end = channels[source], channels[target]
    if source > target:
        enlarge = nn.Upsample(scale_factor=2 ** (source - target), mode="bilinear")
        return nn.Sequential(nn.Conv2d(start, end, 1, bias=False), nn.BatchNorm2d(end), enlarge)
    steps: list[nn.Module] = [_unit(start, start, stride=2) for _ in range(target - source - 1)]
    last = nn.Sequential(_conv3x3(start, end, stride=2), nn.BatchNorm2d(end))
    return nn.Sequential(*steps, last)


def _arrive(routes: nn.Module, maps: list[Tensor], target: Tensor) -> Tensor:
    """The sum of all maps at the place of one of them, whose size they are brought to."""
    layers = cast(nn.ModuleList, routes)
    arriving = [_resize(layer(x), target) for layer, x in zip(layers, maps)]
    return sum(arriving[1:], start=arriving[0])


def _resize(x: Tensor, target: Tensor) -> Tensor:
    if x.shape[-2:] == target.shape[-2:]:
        return x
    return F.interpolate(x, size=target.shape[-2:], mode="bilinear", align_corners=False)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
