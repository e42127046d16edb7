"""Task query blocks that read a few places instead of every pixel: linear in the pixels.

Shapes: B images, T tasks, (H, W) a task's map, C channels.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mtlcli.models.deformable_attention import DeformableAttention
from mtlcli.models.demt import small_mlp
from mtlcli.models.position import cell_centres
from mtlcli.models.task_pyramid import TaskPyramid


class DeformableQuery(nn.Module):
    """One task's map plus what deformable attention reads in the pyramid of all tasks."""

    def __init__(self, width: int, attention: DeformableAttention) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = small_mlp(width)

    def forward(
        self, x_BHWC: Tensor, rows: Tensor, shapes: list[tuple[int, int]], reference: Tensor
    ) -> Tensor:
        read = self.attention(x_BHWC.flatten(1, 2), reference, rows, shapes)
        return x_BHWC + self.mlp(read).view(x_BHWC.shape)


class DeformableQueries(nn.Module):
    """A query block for each task, all on one pyramid of the refined maps."""

    def __init__(self, pyramid: TaskPyramid, blocks: Iterable[DeformableQuery]) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x_BTHWC: Tensor, refined_BTHWC: Tensor) -> Tensor:
        rows, shapes = self.pyramid(refined_BTHWC)
        reference = cell_centres(x_BTHWC.shape[2], x_BTHWC.shape[3], rows)
        answers = [
            block(x, rows, shapes, reference) for block, x in zip(self.blocks, x_BTHWC.unbind(1))
        ]
        return torch.stack(answers, 1)
