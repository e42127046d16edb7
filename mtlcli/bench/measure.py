"""Time and memory of a network's parts, taken by hooks while whole passes run."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from mtlcli.bench.parts import Part

ENOUGH = 5  # passes
PATIENCE = 10.0  # seconds after which fewer are enough
WHOLE = "total"


def latency(
    network: nn.Module, found: Mapping[str, Part], image: Tensor, device: torch.device
) -> dict[str, float]:
    """Milliseconds of a forward pass in evaluation mode, by path; the median of a few passes."""
    passes: list[dict[str, float]] = []
    began = time.perf_counter()
    network.eval()
    with torch.inference_mode():
        network(image)  # caches, kernels and clocks settle
        while len(passes) < ENOUGH and (not passes or time.perf_counter() - began < PATIENCE):
            passes.append(_timed(network, found, image, device))
    return {path: median(p[path] for p in passes) for path in passes[0]}


def saved_bytes(network: nn.Module, found: Mapping[str, Part], image: Tensor) -> dict[str, int]:
    """Bytes that a training step keeps for its backward pass, by path; weights do not count."""
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    seen, kept, inside = set(weights), dict.fromkeys((WHOLE, *_modules(found)), 0), [WHOLE]

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


@contextmanager
def skipping(shapes: Mapping[nn.Module, torch.Size]) -> Iterator[None]:
    """Within it, these modules answer at once with zeros of their shape."""
    with ExitStack() as undo:
        for module, shape in shapes.items():
            module.forward = _zeros(shape)  # type: ignore[method-assign]
            undo.callback(module.__dict__.pop, "forward")
        yield


def _zeros(shape: Sequence[int]) -> Callable[..., Tensor]:
    return lambda first, *_: first.new_zeros(shape)


def _timed(
    network: nn.Module, found: Mapping[str, Part], image: Tensor, device: torch.device
) -> dict[str, float]:
    spent = dict.fromkeys(_modules(found), 0.0)
    started: list[float] = []

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return 1e3 * time.perf_counter()

    def stop(path: str) -> None:
        spent[path] += now() - started.pop()

    with _around(found, lambda path: started.append(now()), stop):
        began = now()
        network(image)
        return {WHOLE: now() - began, **spent}


def _modules(found: Mapping[str, Part]) -> list[str]:
    return [path for path, part in found.items() if isinstance(part[0], nn.Module)]


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
        for path, part in found.items():
            for module in part:
                if isinstance(module, nn.Module):
                    for hook in (
                        module.register_forward_pre_hook(calling(before, path)),
                        module.register_forward_hook(calling(after, path)),
                    ):
                        undo.callback(hook.remove)
        yield
