"""What all systems share: backbone, decoder, one head per task, predictions at image size.

Tasks are taken in the order of their names, so that the order in which a user lists them changes
nothing, neither the predictions nor the random start.
"""

from collections.abc import Iterable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from mtlcli.errors import InputError
from mtlcli.models.conv_head import ConvHead, hypercolumn
from mtlcli.models.deformable_mixer import Coordinates, DeformableMixer
from mtlcli.models.demt import InteractionDecoder


class Network(nn.Module):
    """Image -> {task: logits}.

    Args:
        backbone: (B, 3, H, W) -> maps, finest first.
        decoder: their hypercolumn (B, C, h, w) -> one map per task, in the order of the heads.
        heads: {task: map -> logits at the map's size}.
    """

    def __init__(
        self, backbone: nn.Module, decoder: nn.Module, heads: dict[str, nn.Module]
    ) -> None:
        super().__init__()
        self.backbone, self.decoder = backbone, decoder
        self.heads = nn.ModuleDict(heads)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> {task: (B, channels[task], H, W)}."""
        maps = self.decoder(hypercolumn(self.backbone(image)))
        return {
            task: F.interpolate(head(x), image.shape[-2:], mode="bilinear", align_corners=False)
            for (task, head), x in zip(self.heads.items(), maps)
        }


def by_name(channels: Mapping[str, int]) -> dict[str, int]:
    """The tasks in the order of their names.

    Raises:
        InputError: no task, or a task without output channels.
    """
    if not channels:
        raise InputError("A network needs at least one task.")
    for task, outputs in channels.items():
        if outputs < 1:
            raise InputError(f"Task '{task}' needs at least 1 output channel, not {outputs}.")
    return dict(sorted(channels.items()))


def check_positive(**settings: int) -> None:
    """Refuses counts below 1.

    Raises:
        InputError: names the setting and its value.
    """
    for name, count in settings.items():
        if count < 1:
            raise InputError(f"{name} must be at least 1, not {count}.")


def interaction_network(
    channels: Mapping[str, int],
    backbone: nn.Module,
    width: int,
    interaction: nn.Module,
    queries: nn.Module,
    space_first: bool = False,
    mixer_coordinates: Coordinates = "absolute",
    logits_deviation: float = 0.01,
) -> Network:
    """DeMT's network around an interaction block and its query blocks; `channels` by name.

    Raises:
        InputError: a deviation of the logits' weights that is not positive.
    """
    if not logits_deviation > 0:
        raise InputError(f"logits_deviation must be above 0, not {logits_deviation}.")
    inputs = hypercolumn_channels(backbone)
    mixers = [DeformableMixer(width, space_first, mixer_coordinates) for _ in channels]
    return Network(
        backbone,
        decoder=InteractionDecoder(inputs, width, mixers, interaction, queries),
        heads=conv_heads(channels, width, hidden=inputs // 8, deviation=logits_deviation),
    )


def conv_heads(
    channels: Mapping[str, int], inputs: int, hidden: int, deviation: float = 0.01
) -> dict[str, nn.Module]:
    """A convolutional head for each task."""
    return {
        task: ConvHead(inputs, hidden, outputs, deviation) for task, outputs in channels.items()
    }


def hypercolumn_channels(backbone: nn.Module) -> int:
    """Channels of all the backbone's maps together."""
    widths: Iterable[int] = backbone.channels  # type: ignore[assignment]
    return sum(widths)
