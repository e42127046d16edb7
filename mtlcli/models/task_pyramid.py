"""A pyramid of every task's map, laid out as the rows that deformable attention reads.

Shapes: B images, T tasks, (H, W) a task's map, C channels, S pixels of all maps of all levels.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mtlcli.errors import InputError

Downsampling = Literal["conv3x3", "conv1x1_maxpool"]


class TaskPyramid(nn.Module):
    """Halves each task's map again and again, sizes rounded up.

    Args:
        width: C.
        tasks: T.
        levels: resolutions in all, the given one included.
        downsampling: `conv3x3` has stride 2; `conv1x1_maxpool` pools 2x2 after a 1x1 convolution.
        shared: one convolution per level for all tasks, or one for each.

    Raises:
        InputError: an unknown downsampling, or no level.
    """

    def __init__(
        self,
        width: int,
        tasks: int,
        levels: int,
        downsampling: str = "conv3x3",
        shared: bool = True,
    ) -> None:
        super().__init__()
        if levels < 1:
            raise InputError(f"A pyramid needs at least 1 level, not {levels}.")
        copies = 1 if shared else tasks
        self.levels = nn.ModuleList(
            nn.ModuleList(_halving(width, downsampling) for _ in range(copies))
            for _ in range(levels - 1)
        )

    def forward(self, x_BTHWC: Tensor) -> tuple[Tensor, list[tuple[int, int]]]:
        """The rows (B, S, C), level by level and in it task by task, and the maps' (H, W)."""
        batch, tasks, height, width, channels = x_BTHWC.shape
        level = x_BTHWC
        rows, shapes = [level.reshape(batch, -1, channels)], [(height, width)] * tasks
        for halvings in self.levels:
            level = _halve(halvings, level)  # type: ignore[arg-type]
            rows.append(level.reshape(batch, -1, channels))
            shapes += [(level.shape[2], level.shape[3])] * tasks
        return torch.cat(rows, 1), shapes


def _halving(width: int, downsampling: str) -> nn.Module:
    if downsampling == "conv3x3":
        return nn.Conv2d(width, width, 3, stride=2, padding=1)
    if downsampling == "conv1x1_maxpool":
        return nn.Sequential(nn.Conv2d(width, width, 1), nn.MaxPool2d(2, ceil_mode=True))
    raise InputError(
        f"Downsamplings are {', '.join(get_args(Downsampling))}, not '{downsampling}'."
    )


def _halve(halvings: nn.ModuleList, x_BTHWC: Tensor) -> Tensor:
    """One level down; a convolution that the tasks share sees them as one batch."""
    groups = [x_BTHWC] if len(halvings) == 1 else x_BTHWC.split(1, dim=1)
    halved = []
    for halving, group in zip(halvings, groups):
        images = halving(group.flatten(0, 1).permute(0, 3, 1, 2))  # channels last in memory
        halved.append(images.permute(0, 2, 3, 1).unflatten(0, group.shape[:2]))
    return torch.cat(halved, 1)
