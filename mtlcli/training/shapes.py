"""A training step on the meta device, from shapes alone: what it holds at its peak, and how many
tensors of how many bytes it makes. Nothing is computed, so a card need not be here.
"""

import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from mtlcli.data.hdf5 import Info
from mtlcli.maps._map import NO_OPTIONS
from mtlcli.models.recompute import boxes, recompute
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.training.backbone import freeze

HALF = torch.bfloat16
LOWERED = {  # by autocast, of what networks here call
    F.linear,
    F.conv1d,
    F.conv2d,
    F.conv_transpose2d,
    torch.matmul,
    torch.bmm,
    torch.einsum,
    torch.Tensor.matmul,
    torch.Tensor.__matmul__,
    F.scaled_dot_product_attention,
}
RAISED = {  # to float32
    F.layer_norm,
    F.group_norm,
    F.softmax,
    torch.softmax,
    torch.Tensor.softmax,
    F.normalize,
    F.softplus,
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a forward and backward pass of a batch takes."""

    peak: int  # bytes of all tensors but the weights and their gradients, at the most
    tensors: int  # that it makes; on a GPU about its kernels
    made: int  # bytes of these


def trace(config: RunConfig, dataset: Info, images: int, *, amp: bool) -> Step:
    """Follow a step of so many images through the network, the losses and back.

    Args:
        config: complete.
        dataset: as `checkpoint.build_network` needs it.
        images: that are passed at once.
        amp: whether it computes in half precision, as autocast does on CUDA.
    """
    precision = Precision(amp)
    with torch.device("meta"):
        network = checkpoint.build_network(config, dataset).train()
        if config.freeze_backbone:
            freeze(network)
        if config.checkpointing:
            for box in boxes(network):
                box.forward = within(precision, box.forward)  # type: ignore[method-assign]
            recompute(network)
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(drop_gradient)
        with Watch(network.parameters()) as watch:
            pass_batch(network, precision, config, dataset, images)
    return Step(peak=watch.peak, tensors=watch.tensors, made=watch.made)


def pass_batch(
    network: nn.Module,
    precision: AbstractContextManager,
    config: RunConfig,
    dataset: Info,
    images: int,
) -> None:
    """Pass a batch of zeros through the network, in this precision, and the losses and back, on the
    device where tensors are made now.
    """
    tasks = checkpoint.tasks_of(config.tasks, dataset)
    maps = {name: torch.as_tensor(t.map.empty(*config.window)) for name, t in tasks.items()}
    targets = {name: torch.zeros(images, *m.shape, dtype=m.dtype) for name, m in maps.items()}
    image = torch.zeros(images, 3, *config.window)
    with precision:
        logits = network(image)
    options = dataset.options
    losses = [
        task.loss(logits[name].float(), targets[name], options.get(name, NO_OPTIONS))
        for name, task in tasks.items()
    ]
    torch.stack(losses).sum().backward()


def drop_gradient(parameter: Tensor) -> None:
    """The gradients of all weights are as large as these, whatever the batch: counted with them."""
    parameter.grad = None


def within(precision: "Precision", forward: Callable[..., Any]) -> Callable[..., Any]:
    """The forward pass of a box in this precision, also when it is computed again."""

    def pass_forward(*arguments: Any, **named: Any) -> Any:
        with precision:
            return forward(*arguments, **named)

    return pass_forward


class Precision(TorchFunctionMode):
    """Casts as autocast does on CUDA, if `amp`, and takes attention as a fused kernel: the meta
    device has neither.
    """

    def __init__(self, amp: bool) -> None:
        super().__init__()
        self.amp = amp

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        wanted = HALF if func in LOWERED else torch.float32 if func in RAISED else None
        if self.amp and wanted:
            args, kwargs = tree_map(lambda x: cast(x, wanted), (args, kwargs))
        if func is F.scaled_dot_product_attention:
            return FusedAttention.apply(*args[:3])
        return func(*args, **kwargs)


def cast(value: Any, wanted: torch.dtype) -> Any:
    """A tensor of floating-point numbers in another type; anything else as it is."""
    is_float = isinstance(value, Tensor) and value.dtype in (torch.float32, HALF)
    return value.to(wanted) if is_float else value


class FusedAttention(torch.autograd.Function):
    """Shapes of attention that keeps its inputs and its output, but no weights."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        answer = q.new_empty(*q.shape[:-1], v.shape[-1])
        ctx.save_for_backward(q, k, v, answer)
        return answer

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(torch.empty_like, ctx.saved_tensors[:3]))


class Watch(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive, all but those `known` before."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.tensors, self.made, self.now, self.peak = 0, 0, 0, 0
        self.alive: dict[int, object] = {t.untyped_storage()._cdata: t for t in known}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.note(tensor.untyped_storage())
        return made

    def note(self, storage: torch.UntypedStorage) -> None:
        """Count a storage from now until nothing refers to it any more."""
        place, size = storage._cdata, storage.nbytes()
        if place in self.alive:
            return
        self.tensors += 1
        self.made += size
        self.now += size
        self.peak = max(self.peak, self.now)
        self.alive[place] = weakref.finalize(storage, self.forget, place, size)

    def forget(self, place: int, size: int) -> None:
        """A storage is no more."""
        del self.alive[place]
        self.now -= size
