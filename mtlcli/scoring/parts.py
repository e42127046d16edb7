"""The parts of a network, as its modules name them, and the time and memory that each takes.

A path is made of attribute names; the entries of a list or dict of modules (one per task, block or
step) share the path of the list. Modules of other libraries, and the backbone, stay whole; modules
without parameters are left out.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

CONTAINERS = nn.ModuleList | nn.ModuleDict
BACKBONE = "backbone"
DEEPEST = 3  # modules within modules, lists apart
ENOUGH = 5  # passes
PATIENCE = 10.0  # seconds after which fewer are enough
WHOLE = "total"
Part = list[nn.Module | nn.Parameter]


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
    """Path -> bytes that a training step keeps for its backward pass; weights do not count."""
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
