"""`mtl train --dry-run`: what memory a run needs, and which batch fits, before it is started."""

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mtlcli.data.hdf5 import Info
from mtlcli.files import gigabytes
from mtlcli.models.recompute import boxes, recompute
from mtlcli.ops.devices import autocast
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig

PER_PARAMETER = 3  # weight, gradient and momentum, float32
USABLE = 0.9  # of the memory; the rest is for libraries and fragments


@dataclass(frozen=True, kw_only=True)
class Need:
    """Memory of a run, in bytes."""

    parameters: int  # a count, not bytes
    fixed: int  # weights, gradients, momentum
    per_image: int  # of a forward and backward pass
    there: int  # memory of the device
    batch: int  # images that are passed at once
    measured: bool  # on the device, or counted from the shapes, in float32

    @property
    def needed(self) -> int:
        """At the peak of a step."""
        return self.fixed + self.batch * self.per_image

    @property
    def largest(self) -> int:
        """How many images can be passed at once."""
        return max(0, int((USABLE * self.there - self.fixed) // self.per_image))

    def text(self, config: RunConfig) -> str:
        """What it means for a run."""
        height, width = config.window
        how = "measured" if self.measured else "counted in float32, without working memory"
        lines = [
            f"{self.parameters:,} parameters",
            f"memory: {gigabytes(self.fixed)} fixed, {gigabytes(self.per_image)} per image of "
            f"{height}x{width} ({how})",
            f"{self.batch} images at once: {gigabytes(self.needed)} "
            f"of {gigabytes(self.there)}; {self.largest} fit",
        ]
        if self.largest < self.batch:
            lines.append(self.remedy(config))
        return "\n".join(lines)

    def remedy(self, config: RunConfig) -> str:
        """Options with which the run fits."""
        parts = [n for n in range(1, config.batch_size + 1) if config.batch_size % n == 0]
        fitting = [n for n in parts if config.batch_size // n <= self.largest]
        ways = [f"--accumulate {fitting[0]}"] if fitting else ["a smaller --size or --crop"]
        ways += [] if config.checkpointing else ["--checkpointing"]
        return f"does not fit: use {' or '.join(ways)}"


def estimate(config: RunConfig, dataset: Info, device: torch.device) -> Need:
    """What a run with these options needs: measured on a CUDA device, counted elsewhere.

    Args:
        config: complete.
        dataset: as `checkpoint.build_network` needs it.
        device: to train on.
    """
    place = device if device.type == "cuda" else torch.device("meta")
    with place:
        network = checkpoint.build_network(config, dataset).train()
    parameters = sum(p.numel() for p in network.parameters())
    measured = device.type == "cuda"
    if measured and config.checkpointing:
        recompute(network)
    passing = measure_bytes if measured else count_bytes
    return Need(
        parameters=parameters,
        fixed=4 * PER_PARAMETER * parameters,
        per_image=passing(network, config, place),
        there=device_memory(device),
        batch=config.batch_size // config.accumulate,
        measured=measured,
    )


def measure_bytes(network: nn.Module, config: RunConfig, device: torch.device) -> int:
    """Of each image more in a forward and backward pass on a CUDA device."""
    peaks = []
    for images in (1, 2):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        image = torch.zeros(images, 3, *config.window, device=device)
        with autocast(device, bool(config.amp)):
            logits = network(image)
        sum(x.float().mean() for x in logits.values()).backward()
        network.zero_grad(set_to_none=True)
        peaks.append(torch.cuda.max_memory_allocated(device) - before)
    return max(1, peaks[1] - peaks[0])


def count_bytes(network: nn.Module, config: RunConfig, device: torch.device) -> int:
    """What autograd keeps of one image, from shapes alone; with recomputation the inputs of the
    boxes and what the largest box keeps.
    """
    inside: list[int] = []  # indices into `kept`: the box that runs
    kept, inputs = [0], 0
    seen: dict[int, Any] = {p.untyped_storage()._cdata: p for p in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in seen:
            seen[storage._cdata] = storage
            kept[inside[-1] if inside else 0] += storage.nbytes()
        return tensor

    def enter(box: nn.Module, given: tuple[Any, ...]) -> None:
        nonlocal inputs
        inputs += sum(x.nbytes for x in flat(given))
        kept.append(0)
        inside.append(len(kept) - 1)

    hooks = []
    for box in boxes(network) if config.checkpointing else ():
        hooks.append(box.register_forward_pre_hook(enter))
        hooks.append(box.register_forward_hook(lambda *_: inside.pop() and None))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), FlashAttention():
        network(torch.zeros(2, 3, *config.window, device=device))
    return (kept[0] + inputs + max(kept[1:], default=0)) // 2


class FlashAttention(TorchFunctionMode):
    """Within it, attention keeps what a fused kernel does; on the meta device there is none."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            return _KeepsNoWeights.apply(*args[:3])
        return func(*args, **(kwargs or {}))


class _KeepsNoWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        answer = q.new_empty(*q.shape[:-1], v.shape[-1])
        ctx.save_for_backward(q, k, v, answer)
        return answer


def flat(values: Any) -> list[Tensor]:
    """The tensors among nested arguments."""
    if isinstance(values, Tensor):
        return [values]
    return [x for v in values for x in flat(v)] if isinstance(values, list | tuple) else []


def device_memory(device: torch.device) -> int:
    """Bytes of the device, or of this machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
