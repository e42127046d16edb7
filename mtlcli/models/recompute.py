"""Less memory for more time: activations inside chosen boxes are computed again when the backward
pass needs them (Chen et al., arXiv 1604.06174), with the same dropout and batch statistics.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.models.swin_transformer import SwinTransformerBlock

from mtlcli.models.conv_head import ConvHead
from mtlcli.models.deformable_mixer import DeformableMixer
from mtlcli.models.deformable_query import DeformableQuery
from mtlcli.models.hrnet import ExchangeModule
from mtlcli.models.inter_task_attention import RefinementStep
from mtlcli.models.pyramid import Pyramid
from mtlcli.models.resnet import Bottleneck

BOXES = (
    Bottleneck,
    ExchangeModule,
    SwinTransformerBlock,
    DeformableMixer,
    RefinementStep,
    DeformableQuery,
    ConvHead,
)
LISTS = (nn.Sequential, nn.ModuleList)


def boxes(network: nn.Module) -> list[nn.Module]:
    """The boxes of a network whose inputs alone are worth keeping: ours by their classes, those of
    a network that is not ours as the members of its lists.
    """
    ours = [module for module in network.modules() if isinstance(module, BOXES)]
    pyramids = [module for module in network.modules() if isinstance(module, Pyramid)]
    return ours + [block for pyramid in pyramids for block in _members(pyramid.body)]


def _members(module: nn.Module) -> Iterator[nn.Module]:
    """What stands in lists and has parts itself, the outermost of them."""
    for child in module.children():
        lists = isinstance(child, LISTS)
        if isinstance(module, LISTS) and not lists and any(True for _ in child.children()):
            yield child
        else:
            yield from _members(child)


def recompute(network: nn.Module) -> None:
    """From now on every box of the network keeps its inputs only. Results do not change."""
    for box in boxes(network):
        box.forward = _again(box, box.forward)  # type: ignore[method-assign]


def _again(box: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), _FrozenStatistics(box)

    return partial(checkpoint, forward, use_reentrant=False, context_fn=contexts)


class _FrozenStatistics(AbstractContextManager):
    """A batch that passes again does not move the running statistics again.

    It is entered once for every backward pass: weightings that compare gradients make several.
    """

    def __init__(self, box: nn.Module) -> None:
        norms = (module for module in box.modules() if isinstance(module, _BatchNorm))
        self.momenta = {norm: norm.momentum for norm in norms if norm.momentum is not None}

    def __enter__(self) -> None:
        for norm in self.momenta:
            norm.momentum = 0.0

    def __exit__(self, *error: object) -> None:
        for norm, momentum in self.momenta.items():
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.sub_(1)
