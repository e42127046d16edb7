"""DeMT-ITSA (Bohn et al., arXiv 2508.04422): DeMT with deformable inter-task self-attention."""

from collections.abc import Mapping
from math import inf
from typing import Literal, get_args

from torch import nn

from mtlcli.errors import InputError
from mtlcli.models.deformable_attention import DeformableAttention, Scope
from mtlcli.models.deformable_mixer import Coordinates
from mtlcli.models.deformable_query import DeformableQueries, DeformableQuery
from mtlcli.models.inter_task_attention import Grid, InterTaskAttention, RefinementStep
from mtlcli.models.task_pyramid import Downsampling, TaskPyramid
from mtlcli.ops import Border
from mtlcli.systems._network import Network, by_name, check_positive, interaction_network
from mtlcli.systems.demt import task_queries

TITLE = "DeMT-ITSA"  # in tables

Query = Literal["global", "pixel", "deformable"]


def build(
    channels: Mapping[str, int],
    backbone: nn.Module,
    *,
    width: int = 256,
    position_channels: int = 24,
    position_grid: Grid = "tasks",
    steps: int = 3,
    levels: int = 3,
    downsampling: Downsampling = "conv3x3",
    heads: int = 4,
    points: int = 16,
    border: Border = "clamp",
    gradient_scale: float = 100.0,
    gradient_scope: Scope = "module",
    shared_convolutions: bool = True,
    tied_steps: bool = False,
    feedforward: int = 1024,
    dropout: float = 0.1,
    query: Query = "global",
    mixer_coordinates: Coordinates = "absolute",
    logits_deviation: float = 0.01,
) -> Network:
    """The paper's network; where the paper is silent or can be read in two ways, a default is a
    choice of ours: docs/choices.md lists them.

    Args:
        channels: {task: output channels}.
        backbone: image -> maps, with `channels`.
        width: channels of each task's map in the decoder.
        position_channels: of the position code appended to them; 0 for none.
        position_grid: `tasks`, one grid over all tasks' maps, or `repeated`, the same for each.
        steps: refinement steps.
        levels: resolutions of the pyramid that is read.
        downsampling: `conv3x3` of stride 2, or `conv1x1_maxpool`.
        heads: attention heads, in the interaction and in the queries.
        points: places read per head, task and level.
        border: outside a map is its edge (`clamp`) or zero (`zeros`).
        gradient_scale: lambda, the factor on the gradients of `gradient_scope`. With the optimiser
            adamw it does nothing: that divides every gradient by its own size.
        gradient_scope: what lambda scales: the whole `module`, which is the paper's sentence to the
            letter, or its `offsets` alone, or `offsets_and_weights`; `mtl experiment
            nyud_lite_lambda` compares.
        shared_convolutions: the tasks share the pyramid's convolutions.
        tied_steps: the steps share their weights.
        feedforward: hidden channels of the feed-forward block.
        dropout: of what a refinement step adds, in training.
        query: `global` (paper), `pixel`, or `deformable`, which makes the cost linear in pixels.
        mixer_coordinates: `absolute` or `relative`, see the system demt.
        logits_deviation: of the heads' last random weights; 0.01 as released starts all logits near
            zero, 0.07, about torch's own, learns sooner from random weights.

    Raises:
        InputError: a setting that does not exist or does not fit the others.
    """
    channels = by_name(channels)
    check_positive(width=width, heads=heads, points=points, feedforward=feedforward)
    tasks, full = len(channels), width + position_channels
    if full % heads or width % heads:
        raise InputError(
            f"{heads} heads must divide width {width} and width + position channels "
            f"({width} + {position_channels} = {full})."
        )

    def pyramid(channels: int) -> TaskPyramid:
        return TaskPyramid(channels, tasks, levels, downsampling, shared_convolutions)

    def attention(channels: int) -> DeformableAttention:
        return DeformableAttention(
            channels, tasks * levels, heads, points, border, gradient_scale, gradient_scope
        )

    if not 0 < gradient_scale < inf:
        raise InputError(f"The gradient scale lambda must be positive, not {gradient_scale}.")
    if not 0 <= dropout < 1:
        raise InputError(f"dropout must be from 0 to below 1, not {dropout}.")
    if query not in get_args(Query):
        raise InputError(f"Queries are global, pixel or deformable, not '{query}'.")
    interaction = InterTaskAttention(
        width,
        position_channels,
        position_grid,
        steps,
        tied_steps,
        lambda: RefinementStep(full, pyramid(full), attention(full), feedforward, dropout),
    )
    queries: nn.Module
    if query == "deformable":
        queries = DeformableQueries(
            pyramid(width), [DeformableQuery(width, attention(width)) for _ in channels]
        )
    else:
        queries = task_queries(tasks, width, heads, query)
    return interaction_network(
        channels,
        backbone,
        width,
        interaction,
        queries,
        mixer_coordinates=mixer_coordinates,
        logits_deviation=logits_deviation,
    )
