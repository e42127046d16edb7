"""The single-task baseline: for each task its own whole network, all of them in one module."""

from collections.abc import Mapping
from copy import deepcopy

from torch import Tensor, nn

from mtlcli.systems import multi_task
from mtlcli.systems._network import by_name

TITLE = "single-task"  # in tables


class SeparateNetworks(nn.Module):
    """Image -> {task: logits}, each from the network of that task."""

    def __init__(self, networks: dict[str, nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) -> {task: (B, channels[task], H, W)}."""
        return {task: network(image)[task] for task, network in self.networks.items()}


def build(
    channels: Mapping[str, int], backbone: nn.Module, *, hidden: int | None = None
) -> SeparateNetworks:
    """The multi-task baseline with one task, once per task.

    Every network has its own copy of the backbone, which starts from the weights of the given one,
    loaded or random. As nothing is shared, training all at once is training each alone, with
    constant weights of the losses (`fixed`) and without --clip, which looks at one gradient of all,
    and --holdout, which picks one iterate for all.

    Args:
        channels: {task: output channels}.
        backbone: image -> maps, with `channels`.
        hidden: channels inside each head; the default depends on the backbone, see multi_task.

    Raises:
        InputError: no task, or a head without channels.
    """
    return SeparateNetworks(
        {
            task: multi_task.build({task: outputs}, deepcopy(backbone), hidden=hidden)
            for task, outputs in by_name(channels).items()
        }
    )
