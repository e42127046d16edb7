"""ResNet (He et al., arXiv 1512.03385): its blocks, and a pyramid of the four stages.

Unusual: the last scale of every block starts at zero (Goyal et al., arXiv 1706.02677, 5.1), so that
a network with random weights starts as a shallow one.
"""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

EXPANSION = 4  # of a bottleneck's channels at its end


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Args:
        inputs: channels.
        width: channels of both convolutions, and of the output.
        stride: of the first convolution.
        downsample: brings the input to the shape of the output, where they differ.
    """

    def __init__(
        self, inputs: int, width: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += shortcut
        return self.relu(x)


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 convolutions, and a shortcut; 4 `width` channels come out.

    Args:
        inputs: channels.
        width: channels of the 3x3 convolution.
        downsample: brings the input to the shape of the output, where they differ.
    """

    def __init__(self, inputs: int, width: int, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, EXPANSION * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(EXPANSION * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        x += shortcut
        return self.relu(x)


class ResNet(nn.Module):
    """Stem at stride 4, then four stages, each but the first at half the resolution before.

    Args:
        channels: of the four stages, at strides 4, 8, 16 and 32.
        blocks: of each stage.
    """

    def __init__(self, channels: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        inputs = (channels[0], *channels[:-1])
        self.stages = nn.ModuleList(
            _stage(before, width, blocks) for before, width in zip(inputs, channels)
        )
        self.apply(_initialise)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> four maps (B, channels[i], H / 2^(i+2), W / 2^(i+2)), rounded up."""
        x = self.stem(image)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def _stage(inputs: int, width: int, blocks: int) -> nn.Sequential:
    """Blocks of one resolution; the first halves it where it changes the channels."""
    if inputs == width:
        return nn.Sequential(*(BasicBlock(width, width) for _ in range(blocks)))
    shrink = nn.Sequential(nn.Conv2d(inputs, width, 1, stride=2, bias=False), nn.BatchNorm2d(width))
    first = BasicBlock(inputs, width, stride=2, downsample=shrink)
    return nn.Sequential(first, *(BasicBlock(width, width) for _ in range(blocks - 1)))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, BasicBlock):
        nn.init.zeros_(cast(nn.BatchNorm2d, module.bn2).weight)
