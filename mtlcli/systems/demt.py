"""DeMT (Xu et al., AAAI 2023, arXiv 2301.03461): deformable mixers, then attention among tasks."""

from collections.abc import Mapping
from typing import Literal, get_args

from torch import nn

from mtlcli.errors import InputError
from mtlcli.models.attention import Attention, Reach
from mtlcli.models.deformable_mixer import Coordinates
from mtlcli.models.demt import TaskInteraction, TaskQueries, TaskQuery
from mtlcli.systems._network import Network, by_name, check_positive, interaction_network

TITLE = "DeMT"  # in tables

QueryReach = Literal["global", "pixel"]


def build(
    channels: Mapping[str, int],
    backbone: nn.Module,
    *,
    width: int = 256,
    heads: int = 4,
    interaction: Reach = "global",
    query: QueryReach = "global",
    space_first: bool = False,
    mixer_coordinates: Coordinates = "absolute",
) -> Network:
    """The paper's network, or with interaction `self` and query `pixel` the released one.

    The released code attends along the batch axis. With one image per GPU, as its authors
    trained it, that leaves a linear map in the interaction block (`self`) and attention among the
    tasks at each pixel in the query blocks (`pixel`); DeMT's published numbers belong to these.

    Args:
        channels: {task: output channels}.
        backbone: image -> maps, with `channels`.
        width: channels of each task's map in the decoder.
        heads: attention heads.
        interaction: what a token of the interaction block sees: `global`, `pixel` or `self`.
        query: what a task's query sees: `global` or `pixel`.
        space_first: the mixers mix space before channels, as in an earlier release.
        mixer_coordinates: that the mixers' offsets start from: `absolute`, as released, scatters
            the points over the map at first; `relative` starts at the pixel and learns sooner.

    Raises:
        InputError: a setting that does not exist or does not fit the others.
    """
    channels = by_name(channels)
    check_positive(width=width, heads=heads)
    return interaction_network(
        channels,
        backbone,
        width,
        interaction=TaskInteraction(width, Attention(width, heads, interaction)),
        queries=task_queries(len(channels), width, heads, query),
        space_first=space_first,
        mixer_coordinates=mixer_coordinates,
    )


def task_queries(tasks: int, width: int, heads: int, reach: QueryReach) -> TaskQueries:
    """DeMT's query blocks, one per task.

    Raises:
        InputError: a reach other than `global` and `pixel`.
    """
    if reach not in get_args(QueryReach):
        raise InputError(f"Query blocks reach {' or '.join(get_args(QueryReach))}, not '{reach}'.")
    return TaskQueries(TaskQuery(width, Attention(width, heads, reach)) for _ in range(tasks))
