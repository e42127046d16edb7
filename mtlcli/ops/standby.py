"""Others stand by for fused kernels and take over at their first failure on a device.

A compiler, driver or card can refuse any kernel at any shape, in a backward pass or under
torch.compile, so the check is the work itself: the call that fails is computed again, by Triton's
kernels where CUDA's failed, else by plain PyTorch, and the run goes on, slower, after one logged
line. What another operator could not save is raised.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch

from mtlcli.errors import MtlError, RunError

T = TypeVar("T")
INSTEAD = {  # else plain PyTorch does
    "cuda": "triton's take over",
    "channel": "grid_sample reads what the mixers sample",
}
SLOWLY = "deformable attention runs slowly"
MEMORY = ("out of memory", "can't allocate memory", "not enough memory")

log = logging.getLogger(__name__)
_retired: set[tuple[str, torch.device]] = set()
_strict: list[None] = []


def attempt(name: str, device: torch.device, fused: Callable[[], T], instead: Callable[[], T]) -> T:
    """What `fused` computes, or once the kernels of this name have failed there, `instead`.

    Raises:
        RunError: the failure took the device with it.
        RuntimeError: memory is short, or the call was being recorded into a CUDA graph.
    """
    if (name, device) in _retired and not _strict:
        return instead()
    try:
        return fused()
    except Exception as error:
        if isinstance(error, MtlError) or is_memory(error) or _is_recorded(device):
            raise
        _require_life(name, device, error)
        give_up(name, error)
        _retired.add((name, device))
    return instead()


def give_up(name: str, error: Exception) -> None:
    """Say in one line that others take over.

    Raises:
        RunError: within `strict`.
    """
    if _strict:
        raise RunError(f"no fused {name} kernels: {_said(error)}") from error
    log.warning("no fused %s kernels (%s): %s", name, _said(error), INSTEAD.get(name, SLOWLY))


@contextmanager
def strict() -> Iterator[None]:
    """Within it nothing stands by: what measures or checks fused kernels must not get others."""
    _strict.append(None)
    try:
        yield
    finally:
        _strict.pop()


def is_memory(error: Exception) -> bool:
    """Whether memory was short, which plain PyTorch would only need more of."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error).lower() for words in MEMORY)


def _said(error: Exception) -> str:
    line, *_ = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _is_recorded(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    with torch.cuda.device(device) if torch.cuda.is_initialized() else nullcontext():
        return torch.cuda.is_current_stream_capturing()


def _require_life(name: str, device: torch.device, error: Exception) -> None:
    """An illegal access, unlike a kernel that does not compile, leaves nothing to compute with."""
    if device.type != "cuda":
        return
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as lost:
        raise RunError(
            f"{device} no longer answers since the fused {name} kernels failed ({_said(lost)}). "
            "Start again, with MTL_ATTENTION=reference if it happens twice."
        ) from error
