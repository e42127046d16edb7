"""What an image costs a network and its parts: operations, counted on the meta device without
computing anything, and time and memory.

Matrix products and convolutions are torch's own count (`torch.utils.flop_counter`, 2 per
multiply-add). What it leaves out and attention is full of is counted apart: softmax and sampling.
Norms, activations, additions and resizing are left out.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError
from mtlcli.models.deformable_attention import DeformableAttention
from mtlcli.ops import channels
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig

CONTAINERS = nn.ModuleList | nn.ModuleDict
BACKBONE = "backbone"
DEEPEST = 3  # modules within modules, lists apart
ENOUGH = 5  # passes
PATIENCE = 10.0  # seconds after which fewer are enough
WHOLE = "total"
Part = list[nn.Module | nn.Parameter]
SOFTMAX = 3  # per element: exponential, sum, division
BILINEAR = 8  # per sampled value: four corners, multiplied and added
WEIGHING = 2  # per value that attention samples: times its weight, added to the sum
LOCATING = 16  # per sampled point: position 6, cell and fraction 4, complements 2, corner weights 4
LONG = 5e11  # operations that take a CPU many seconds
aten = torch.ops.aten
SOFTMAXES = (aten._softmax, aten._safe_softmax)
SAMPLERS = (channels.OPERATOR,)


def parts(network: nn.Module) -> dict[str, Part]:
    """Path -> all modules that have it, outer paths before inner ones.

    Parameters that an opened module holds itself are parts too.
    """
    found: dict[str, Part] = {}
    for path, part in _walk(network, ()):
        found.setdefault(".".join(path), []).append(part)
    return found


def parameters(part: Part) -> int:
    """Count the parameters of a part."""
    own = [[piece] if isinstance(piece, nn.Parameter) else piece.parameters() for piece in part]
    return sum(p.numel() for each in own for p in each)


def modules(found: Mapping[str, Part]) -> dict[str, list[nn.Module]]:
    """Keep the parts that are modules; a lone parameter runs no pass."""
    kept = {p: [m for m in part if isinstance(m, nn.Module)] for p, part in found.items()}
    return {path: part for path, part in kept.items() if part}


def latency(network: nn.Module, found: Mapping[str, Part], image: Tensor) -> dict[str, float]:
    """Time a forward pass in evaluation mode: path -> milliseconds, the median of a few passes."""
    passes: list[dict[str, float]] = []
    began = time.perf_counter()
    network.eval()
    with torch.inference_mode():
        network(image)  # caches, kernels and clocks settle
        while len(passes) < ENOUGH and (not passes or time.perf_counter() - began < PATIENCE):
            passes.append(_timed(network, found, image))
    return {path: median(p[path] for p in passes) for path in passes[0]}


def saved_bytes(network: nn.Module, found: Mapping[str, Part], image: Tensor) -> dict[str, int]:
    """Path -> bytes that a training step keeps of a picture for its backward pass; weights do not
    count.
    """
    try:
        return _kept_bytes(network, found, image)
    except ValueError:  # batch normalisation of one cell takes no single picture
        both = _kept_bytes(network, found, torch.cat((image, image)))
        return {path: count // 2 for path, count in both.items()}


def _kept_bytes(network: nn.Module, found: Mapping[str, Part], image: Tensor) -> dict[str, int]:
    seen = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept, inside = dict.fromkeys((WHOLE, *modules(found)), 0), [WHOLE]

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            for path in set(inside):
                kept[path] += storage.nbytes()
        return tensor

    network.train()
    with (
        _around(found, inside.append, lambda path: inside.pop()),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        network(image)
    return kept


def _timed(network: nn.Module, found: Mapping[str, Part], image: Tensor) -> dict[str, float]:
    spent = dict.fromkeys(modules(found), 0.0)
    started: list[float] = []

    def now() -> float:
        if image.is_cuda:
            torch.cuda.synchronize(image.device)
        return 1e3 * time.perf_counter()

    def stop(path: str) -> None:
        spent[path] += now() - started.pop()

    with _around(found, lambda path: started.append(now()), stop):
        began = now()
        network(image)
        return {WHOLE: now() - began, **spent}


@contextmanager
def _around(
    found: Mapping[str, Part], before: Callable[[str], Any], after: Callable[[str], Any]
) -> Iterator[None]:
    """Calls `before` and `after` around every forward pass of a part, with its path."""

    def calling(action: Callable[[str], Any], path: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            action(path)

        return hook

    with ExitStack() as undo:
        for path, part in modules(found).items():
            for module in part:
                undo.callback(module.register_forward_pre_hook(calling(before, path)).remove)
                undo.callback(module.register_forward_hook(calling(after, path)).remove)
        yield


def _walk(
    module: nn.Module, path: tuple[str, ...], depth: int = 0
) -> Iterator[tuple[tuple[str, ...], nn.Module | nn.Parameter]]:
    for name, parameter in module.named_parameters(recurse=False):
        if path:
            yield (*path, name), parameter
    for name, child in module.named_children():
        if not any(True for _ in child.parameters()):
            continue
        listed, lists = isinstance(module, CONTAINERS), isinstance(child, CONTAINERS)
        below = path if listed else (*path, name)
        deep = depth + (not listed and not lists)
        if not lists:
            yield below, child
        if lists or _opens(child, below, deep):
            yield from _walk(child, below, deep)


def _opens(module: nn.Module, path: tuple[str, ...], depth: int) -> bool:
    ours = type(module).__module__.startswith("mtlcli.")
    return ours and path[-1] != BACKBONE and depth < DEEPEST


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


def channel_flops(shape: Any, *_: Any, **__: Any) -> int:
    """Of `mtlcli.ops.channels.sample_channels`."""
    return math.prod(shape) * (LOCATING + BILINEAR)


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
    rules |= dict.fromkeys(SAMPLERS, channel_flops)
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


def count_cost(config: RunConfig, dataset: Info) -> Cost:
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


def add_latency(cost: Cost, network: nn.Module) -> Cost:
    """Add the median time of a few passes where the network is, but for what takes a CPU long."""
    device = next(network.parameters()).device
    if device.type == "cpu" and cost.flops > LONG:
        return cost
    image = torch.randn(1, 3, *cost.size, device=device)
    return replace(cost, latency_ms=latency(network, {}, image)[WHOLE], device=str(device))
