"""The multi-task baseline (ATRC's FCN): one backbone, one convolutional head per task."""

from collections.abc import Mapping

from torch import Tensor, nn

from mtlcli.systems._network import (
    Network,
    by_name,
    check_positive,
    conv_heads,
    hypercolumn_channels,
)

TITLE = "multi-task"  # in tables

WIDEST = 96


def build(
    channels: Mapping[str, int], backbone: nn.Module, *, hidden: int | None = None
) -> Network:
    """All heads read the same hypercolumn.

    Args:
        channels: {task: output channels}.
        backbone: image -> maps, with `channels`.
        hidden: channels inside each head; by default a quarter of the hypercolumn's, at most 96:
            67 for HRNet18 (ATRC) and 96 for Swin, which alone gives the published sizes.

    Raises:
        InputError: no task, or a head without channels.
    """
    channels = by_name(channels)
    inputs = hypercolumn_channels(backbone)
    hidden = min(inputs // 4, WIDEST) if hidden is None else hidden
    check_positive(hidden=hidden)
    return Network(backbone, Shared(len(channels)), conv_heads(channels, inputs, hidden))


class Shared(nn.Module):
    """Every task gets the same features."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.tasks = tasks

    def forward(self, features: Tensor) -> list[Tensor]:
        return [features] * self.tasks
