"""EfficientNet-Lite (Tan, Liu et al., github.com/tensorflow/tpu, 2020) without its classifier: the
layers of timm's `tf_efficientnet_lite` under their names there.

The network that comes with mtl stands on one of them, and importing timm takes as long as all else
that drawing a picture does.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from mtlcli.models.pyramid import Pyramid

MULTIPLIERS = {  # of channels, of blocks
    "tf_efficientnet_lite0": (1.0, 1.0),
    "tf_efficientnet_lite1": (1.0, 1.1),
    "tf_efficientnet_lite2": (1.1, 1.2),
}
STEM = 32
STAGES = (  # blocks, kernel, stride, expansion, channels: Table 1 of EfficientNet (ICML 2019)
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
LAST_OF_STRIDE = (1, 2, 4, 6)  # stages that end at strides 4, 8, 16 and 32


class SamePadding(nn.Conv2d):
    """Convolution padded as TensorFlow's SAME: of an odd rest the larger half comes last."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride), rounded up."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        spare = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:]]
        top, left = (each // 2 for each in spare)
        return super().forward(F.pad(x, (left, spare[1] - left, top, spare[0] - top)))


def convolution(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """One without bias, started as EfficientNet's: N(0, 2 / fan out)."""
    if stride > 1:
        made: nn.Conv2d = SamePadding(inputs, outputs, kernel, stride, groups=groups, bias=False)
    else:
        made = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    nn.init.normal_(made.weight, std=math.sqrt(2 / (kernel * kernel * outputs // groups)))
    return made


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with TensorFlow's epsilon."""
    return nn.BatchNorm2d(channels, eps=1e-3)


class Separable(nn.Module):
    """The first block: a convolution of each channel, then one of each pixel."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = convolution(inputs, inputs, kernel, stride, inputs)
        self.bn1 = norm(inputs)
        self.conv_pw = convolution(inputs, outputs)
        self.bn2 = norm(outputs)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        y = F.relu6(self.bn1(self.conv_dw(x)))
        y = self.bn2(self.conv_pw(y))
        return x + y if self.adds else y


class Inverted(nn.Module):
    """An inverted residual: wider, filtered channel by channel, and narrow again."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, times: int) -> None:
        super().__init__()
        wide = inputs * times
        self.conv_pw = convolution(inputs, wide)
        self.bn1 = norm(wide)
        self.conv_dw = convolution(wide, wide, kernel, stride, wide)
        self.bn2 = norm(wide)
        self.conv_pwl = convolution(wide, outputs)
        self.bn3 = norm(outputs)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        y = F.relu6(self.bn1(self.conv_pw(x)))
        y = F.relu6(self.bn2(self.conv_dw(y)))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.adds else y


class EfficientNetLite(nn.Module):
    """Pictures -> maps at strides 4, 8, 16 and 32."""

    def __init__(self, name: str) -> None:
        super().__init__()
        times_channels, times_blocks = MULTIPLIERS[name]
        self.conv_stem = convolution(3, STEM, 3, 2)
        self.bn1 = norm(STEM)
        self.channels: list[int] = []
        stages, inputs = [], STEM
        for stage, (blocks, kernel, stride, expansion, channels) in enumerate(STAGES):
            outputs = to_eights(channels * times_channels)
            deeper = 0 < stage < len(STAGES) - 1  # the first and the last stay as they are
            made: list[nn.Module] = []
            for block in range(math.ceil(blocks * times_blocks) if deeper else blocks):
                here = stride if block == 0 else 1
                made.append(
                    Inverted(inputs, outputs, kernel, here, expansion)
                    if expansion > 1
                    else Separable(inputs, outputs, kernel, here)
                )
                inputs = outputs
            stages.append(nn.Sequential(*made))
            if stage in LAST_OF_STRIDE:
                self.channels.append(outputs)
        self.blocks = nn.Sequential(*stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> four (B, C, h, w)."""
        x = F.relu6(self.bn1(self.conv_stem(image)))
        maps = []
        for stage, blocks in enumerate(self.blocks):
            x = blocks(x)
            if stage in LAST_OF_STRIDE:
                maps.append(x)
        return maps


def to_eights(channels: float) -> int:
    """The nearest multiple of eight, at least eight, and not less than nine tenths."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def build(name: str) -> Pyramid:
    """The network of timm's name with random weights."""
    body = EfficientNetLite(name)
    return Pyramid(body, body.channels)
