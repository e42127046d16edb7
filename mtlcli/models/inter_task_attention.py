"""Deformable inter-task self-attention (Bohn et al., arXiv 2508.04422, section 3), reconstructed.

Every pixel of every task reads a few places in a pyramid of all tasks' maps; this replaces DeMT's
task interaction block. No code was published; what the paper leaves open is an argument here.
Shapes: B images, T tasks, (H, W) a task's map, C channels without and C' with position code.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mtlcli.errors import InputError
from mtlcli.models.deformable_attention import DeformableAttention
from mtlcli.models.demt import small_mlp
from mtlcli.models.position import cell_centres, sine_code
from mtlcli.models.task_pyramid import TaskPyramid

Grid = Literal["tasks", "repeated"]


class InterTaskAttention(nn.Module):
    """Position code, refinement steps, and DeMT's small MLP on the channels that are not code.

    Args:
        width: C.
        position_channels: C' - C, a multiple of 4; 0 leaves the code out.
        position_grid: `tasks` is one grid over the tasks' maps one below the other (equation 2),
            so that the code also tells the tasks apart; `repeated` gives all tasks the same code.
        steps: refinement steps.
        tied: one step's weights used for all steps.
        make_step: makes a step, called once per step or once if they are tied.

    Raises:
        InputError: an unknown grid, no step, or position channels that 4 does not divide.
    """

    def __init__(
        self,
        width: int,
        position_channels: int,
        position_grid: str,
        steps: int,
        tied: bool,
        make_step: Callable[[], "RefinementStep"],
    ) -> None:
        super().__init__()
        if position_grid not in get_args(Grid):
            raise InputError(
                f"Position grids are {', '.join(get_args(Grid))}, not '{position_grid}'."
            )
        if steps < 1:
            raise InputError(f"Inter-task attention needs at least 1 step, not {steps}.")
        if position_channels < 0 or position_channels % 4:
            raise InputError(f"Position channels must be 0, 4, 8, ..., not {position_channels}.")
        self.width, self.position_channels = width, position_channels
        self.position_grid, self.repeats = position_grid, steps if tied else 1
        self.steps = nn.ModuleList(make_step() for _ in range(1 if tied else steps))
        self.mlp = small_mlp(width)

    def forward(self, x_BTHWC: Tensor) -> Tensor:
        """Every task's map -> every task's refined map, (B, T, H, W, C) both."""
        x = self._with_position(x_BTHWC)
        for step in list(self.steps) * self.repeats:
            x = step(x)
        return self.mlp(x[..., : self.width])

    def _with_position(self, x_BTHWC: Tensor) -> Tensor:
        batch, tasks, height, width, _ = x_BTHWC.shape
        if self.position_channels == 0:
            return x_BTHWC
        grids = tasks if self.position_grid == "tasks" else 1
        code = sine_code(grids * height, width, self.position_channels, x_BTHWC)
        code = code.view(grids, height, width, -1).expand(batch, tasks, -1, -1, -1)
        return torch.cat((x_BTHWC, code), -1)


class RefinementStep(nn.Module):
    """Equations (3) to (7): pyramid, deformable attention, residual, norm, feed-forward.

    Args:
        width: C'.
        pyramid: of the tasks' maps.
        attention: of every pixel, to that pyramid.
        feedforward: hidden channels.
        dropout: of what attention and feed-forward add, in training.
    """

    def __init__(
        self,
        width: int,
        pyramid: TaskPyramid,
        attention: DeformableAttention,
        feedforward: int,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.pyramid, self.attention = pyramid, attention
        self.dropout, self.norm = nn.Dropout(dropout), nn.LayerNorm(width)
        self.feedforward = FeedForward(width, feedforward, dropout)

    def forward(self, x_BTHWC: Tensor) -> Tensor:
        tasks, height, width = x_BTHWC.shape[1:4]
        queries = x_BTHWC.flatten(1, 3)  # B, T * H * W, C'
        reference = cell_centres(height, width, queries).repeat(tasks, 1)
        read = self.attention(queries, reference, *self.pyramid(x_BTHWC))
        return self.feedforward(self.norm(queries + self.dropout(read))).view(x_BTHWC.shape)


class FeedForward(nn.Module):
    """Deformable-DETR's feed-forward block with its own residual and norm."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.layers(x))
