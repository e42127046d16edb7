"""Floating-point operations of a network, without computing anything: tensors on the meta device.

Matrix products and convolutions are torch's own count (`torch.utils.flop_counter`, 2 per
multiply-add). What it leaves out and attention is full of is counted apart: softmax and sampling.
Norms, activations, additions and resizing are left out.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mtlcli.bench.parts import Part
from mtlcli.models.deformable_attention import DeformableAttention

SOFTMAX = 3  # per element: exponential, sum, division
BILINEAR = 8  # per sampled value: four corners, multiplied and added
WEIGHING = 2  # per value that attention samples: times its weight, added to the sum
LOCATING = 16  # per sampled point: position 6, cell and fraction 4, complements 2, corner weights 4

aten = torch.ops.aten
SOFTMAXES = (aten._softmax, aten._safe_softmax)
SAMPLERS = (aten.grid_sampler_2d,)


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Operations of one part for one image."""

    matmul: int = 0  # matrix products and convolutions
    softmax: int = 0
    sampling: int = 0

    @property
    def all(self) -> int:
        return self.matmul + self.softmax + self.sampling

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(
            matmul=self.matmul + other.matmul,
            softmax=self.softmax + other.softmax,
            sampling=self.sampling + other.sampling,
        )

    def to_json(self) -> dict[str, int]:
        """The three kinds and their sum."""
        return asdict(self) | {"all": self.all}


@dataclass(frozen=True, kw_only=True)
class Count:
    """What one forward pass of one image does."""

    total: Flops
    parts: Mapping[str, Flops]  # by path; inner paths are contained in outer ones


def softmax_flops(shape: Any, *_: Any, **__: Any) -> int:
    """Of a softmax over any axis."""
    return SOFTMAX * math.prod(shape)


def grid_sample_flops(shape: Any, grid: Any, *_: Any, **__: Any) -> int:
    """Of a bilinear `grid_sample` of (N, C, H, W) at a grid (N, H', W', 2)."""
    points = math.prod(grid[:-1])
    return points * (LOCATING + shape[1] * BILINEAR)


def deformable_flops(module: DeformableAttention, queries: Tensor) -> Flops:
    """What deformable attention does beside its linear maps, for queries (B, N, C)."""
    heads = module.layout[0]
    points = queries.shape[0] * queries.shape[1] * math.prod(module.layout)
    values = points * queries.shape[2] // heads
    return Flops(
        softmax=SOFTMAX * points, sampling=LOCATING * points + (BILINEAR + WEIGHING) * values
    )


def count(network: nn.Module, found: Mapping[str, Part], size: tuple[int, int]) -> Count:
    """Count a forward pass of one image of `size` (H, W).

    Args:
        network: on the meta device, in evaluation mode; it needs no gradients afterwards.
        found: its parts.
        size: of the image.
    """
    network.requires_grad_(False)
    rules: dict[Any, Any] = dict.fromkeys(SOFTMAXES, softmax_flops)
    rules |= dict.fromkeys(SAMPLERS, grid_sample_flops)
    sampled: dict[nn.Module, Flops] = {}

    def note(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        assert isinstance(module, DeformableAttention)
        done = deformable_flops(module, arguments[0])
        sampled[module] = sampled.get(module, Flops()) + done

    hooks = [
        m.register_forward_hook(note)
        for m in network.modules()
        if isinstance(m, DeformableAttention)
    ]
    try:
        with FlopCounterMode(display=False, custom_mapping=rules) as counter, torch.no_grad():
            network(torch.empty(1, 3, *size, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    return _assign(network, found, counter.get_flop_counts(), sampled)


def _assign(
    network: nn.Module,
    found: Mapping[str, Part],
    counts: Mapping[str, Mapping[Any, int]],
    sampled: Mapping[nn.Module, Flops],
) -> Count:
    root = type(network).__name__
    of_module = {}
    for name, module in network.named_modules():
        flops = _by_kind(counts.get(f"{root}.{name}" if name else root, {}))
        for inner in module.modules():
            flops += sampled.get(inner, Flops())
        of_module[module] = flops
    modules = {p: [m for m in part if isinstance(m, nn.Module)] for p, part in found.items()}
    return Count(
        total=of_module[network],
        parts={p: sum((of_module[m] for m in ms), Flops()) for p, ms in modules.items() if ms},
    )


def _by_kind(counts: Mapping[Any, int]) -> Flops:
    softmax = sum(counts.get(op, 0) for op in SOFTMAXES)
    sampling = sum(counts.get(op, 0) for op in SAMPLERS)
    return Flops(
        matmul=sum(counts.values()) - softmax - sampling, softmax=softmax, sampling=sampling
    )
