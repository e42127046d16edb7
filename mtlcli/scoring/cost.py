"""What an image costs a network: floating-point operations, counted on the meta device without
computing anything, and time.

Matrix products and convolutions are torch's own count (`torch.utils.flop_counter`, 2 per
multiply-add). What it leaves out and attention is full of is counted apart: softmax and sampling.
Norms, activations, additions and resizing are left out.
"""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError
from mtlcli.models.deformable_attention import DeformableAttention
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.scoring.parts import WHOLE, Part, latency, modules, parameters

SOFTMAX = 3  # per element: exponential, sum, division
BILINEAR = 8  # per sampled value: four corners, multiplied and added
WEIGHING = 2  # per value that attention samples: times its weight, added to the sum
LOCATING = 16  # per sampled point: position 6, cell and fraction 4, complements 2, corner weights 4
LONG = 5e11  # operations that take a CPU many seconds

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


def softmax_flops(shape: Any, *_: Any, **__: Any) -> int:
    """Of a softmax over any axis."""
    return SOFTMAX * math.prod(shape)


def grid_sample_flops(shape: Any, grid: Any, *_: Any, **__: Any) -> int:
    """Of a bilinear `grid_sample` of (N, C, H, W) at a grid (N, H', W', 2)."""
    return math.prod(grid[:-1]) * (LOCATING + shape[1] * BILINEAR)


def deformable_flops(module: DeformableAttention, queries: Tensor) -> Flops:
    """What deformable attention does beside its linear maps, for queries (B, N, C)."""
    points = queries.shape[0] * queries.shape[1] * math.prod(module.layout)
    values = points * queries.shape[2] // module.layout[0]
    return Flops(
        softmax=SOFTMAX * points, sampling=LOCATING * points + (BILINEAR + WEIGHING) * values
    )


def count(network: nn.Module, found: Mapping[str, Part], size: tuple[int, int]) -> dict[str, Flops]:
    """Count a forward pass of one image: path -> operations, inner paths contained in outer ones.

    Args:
        network: on the meta device, in evaluation mode; it needs no gradients afterwards.
        found: its parts; "total" stands beside their paths.
        size: of the image (H, W).
    """
    network.requires_grad_(False)
    rules: dict[Any, Any] = dict.fromkeys(SOFTMAXES, softmax_flops)
    rules |= dict.fromkeys(SAMPLERS, grid_sample_flops)
    sampled: dict[nn.Module, Flops] = {}

    def note(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        assert isinstance(module, DeformableAttention)
        sampled[module] = sampled.get(module, Flops()) + deformable_flops(module, arguments[0])

    with ExitStack() as undo:
        for module in network.modules():
            if isinstance(module, DeformableAttention):
                undo.callback(module.register_forward_hook(note).remove)
        counter = undo.enter_context(FlopCounterMode(display=False, custom_mapping=rules))
        undo.enter_context(torch.no_grad())
        network(torch.empty(1, 3, *size, device="meta"))
    counts, root = counter.get_flop_counts(), type(network).__name__
    of_module = {}
    for name, module in network.named_modules():
        flops = _by_kind(counts.get(f"{root}.{name}" if name else root, {}))
        of_module[module] = sum((sampled.get(m, Flops()) for m in module.modules()), flops)
    parts = {path: sum((of_module[m] for m in ms), Flops()) for path, ms in modules(found).items()}
    return {WHOLE: of_module[network], **parts}


def _by_kind(counts: Mapping[Any, int]) -> Flops:
    softmax, sampling = (sum(counts.get(op, 0) for op in ops) for ops in (SOFTMAXES, SAMPLERS))
    matmul = sum(counts.values()) - softmax - sampling
    return Flops(matmul=matmul, softmax=softmax, sampling=sampling)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one image costs the network of a run."""

    size: tuple[int, int]  # height and width of the image
    parameters: int
    flops: int  # of all kinds
    latency_ms: float | None = None  # None: not measured
    device: str | None = None  # that it was measured on


def counted(config: RunConfig, dataset: Info) -> Cost:
    """Count a run's network without numbers and without its weights.

    Args:
        config: of the run.
        dataset: that the run is trained on.

    Raises:
        InputError: this version cannot build that network.
    """
    size = config.size or dataset.size
    try:
        with torch.device("meta"):
            network = checkpoint.build_network(config, dataset).eval()
    except (KeyError, TypeError) as error:
        raise InputError(f"its network does not fit this version of mtl ({error}).") from error
    held = parameters([network])
    return Cost(size=size, parameters=held, flops=count(network, {}, size)[WHOLE].all)


def timed(cost: Cost, network: nn.Module) -> Cost:
    """Add the median time of a few passes where the network is, but for what takes a CPU long."""
    device = next(network.parameters()).device
    if device.type == "cpu" and cost.flops > LONG:
        return cost
    image = torch.randn(1, 3, *cost.size, device=device)
    return replace(cost, latency_ms=latency(network, {}, image)[WHOLE], device=str(device))
