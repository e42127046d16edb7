"""MQTransformer (Xu et al., arXiv 2205.14354): tasks exchange a few learned queries each."""

from collections.abc import Mapping
from typing import Literal, get_args

from torch import nn

from mtlcli.errors import InputError
from mtlcli.models.mqtransformer import MultiQueryDecoder
from mtlcli.systems._network import (
    Network,
    by_name,
    check_positive,
    conv_heads,
    hypercolumn_channels,
)

TITLE = "MQTransformer"  # in tables

PixelReach = Literal["global", "self"]


def build(
    channels: Mapping[str, int],
    backbone: nn.Module,
    *,
    width: int = 256,
    queries: int = 64,
    heads: int = 4,
    attention: PixelReach = "global",
    windows: bool = True,
) -> Network:
    """The released network, with the attention that its code seems to mean.

    The released decoder attends along the batch axis. With one image per GPU that leaves a linear
    map: `attention="self", windows=False` computes just that, with the parameters it then uses, and
    the published numbers belong to it. The defaults were not released, and whether the paper's
    network had them is not known.

    Args:
        channels: {task: output channels}.
        backbone: image -> maps, with `channels`.
        width: channels of each task's map in the decoder.
        queries: learned queries of each task.
        heads: attention heads.
        attention: what a pixel of the decoder sees: `global`, its task's pixels, or `self`.
        windows: also attend in windows of 4x4 pixels, which the released code builds and leaves.

    Raises:
        InputError: a setting that does not exist or does not fit the others.
    """
    channels = by_name(channels)
    check_positive(width=width, queries=queries, heads=heads)
    if width % (2 * heads):
        raise InputError(f"width {width} must be a multiple of 2 x heads = {2 * heads}.")
    if attention not in get_args(PixelReach):
        raise InputError(f"Pixels attend {' or '.join(get_args(PixelReach))}, not '{attention}'.")
    inputs = hypercolumn_channels(backbone)
    return Network(
        backbone,
        decoder=MultiQueryDecoder(inputs, len(channels), width, queries, heads, attention, windows),
        heads=conv_heads(channels, width, hidden=width // 4),
    )
