"""Several processes as one, started by torchrun: who a process is, and what all of them agree on.

A process that was started alone is the first of one; then nothing here does anything.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from mtlcli.errors import MtlError

T = TypeVar("T")

PATIENCE = timedelta(minutes=10)
"""How long a process that is done waits for the others before it closes its connections."""


@contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Within it the processes that torchrun started know each other; gives the own device.

    NCCL connects CUDA devices, gloo all others. Within another `joined` it only gives the device.
    They part together: who closes a connection early may cut off what another still reads from it.
    """
    own, alone = device, int(os.environ.get("WORLD_SIZE", "1")) == 1
    if device.type == "cuda" and not alone:
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(own)
    if alone or dist.is_initialized():
        yield own
        return
    store, own_rank, processes = next(dist.rendezvous("env://"))
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=dist.PrefixStore("mtl", store),
        rank=own_rank,
        world_size=processes,
    )
    try:
        yield own
        with suppress(RuntimeError):  # one of them died, or failed: nobody to wait for
            _wait_for_the_others(store, own_rank, processes)
    finally:
        dist.destroy_process_group()


def _wait_for_the_others(store: dist.Store, own_rank: int, processes: int) -> None:
    """Returns when all are done; in the first process, whose store it may be, when all have left.

    Raises:
        RuntimeError: somebody did not come within `PATIENCE`, or the store is gone.
    """
    store.set(f"done/{own_rank}", "")
    store.wait([f"done/{rank}" for rank in range(processes)], PATIENCE)
    if own_rank == 0:
        store.wait([f"left/{rank}" for rank in range(1, processes)], PATIENCE)
    else:
        store.set(f"left/{own_rank}", "")


_apart = False  # in all threads, as backward passes have their own


@contextmanager
def apart() -> Iterator[None]:
    """Within it this process is the first of one, whatever the others do meanwhile."""
    global _apart
    before, _apart = _apart, True
    try:
        yield
    finally:
        _apart = before


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() and not _apart else 1


def rank() -> int:
    """Which one this is."""
    return dist.get_rank() if dist.is_initialized() and not _apart else 0


def is_first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def restarted() -> bool:
    """Whether torchrun has started this process again after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def average(values: Tensor) -> Tensor:
    """The mean over the processes, without a gradient."""
    if world() == 1:
        return values
    total = values.detach().to(torch.float64 if values.device.type == "cpu" else torch.float32)
    dist.all_reduce(total)
    return total / world()


def gather(value: Any) -> list[Any]:
    """The values of all processes, by rank."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def by_first(action: Callable[[], T]) -> T:
    """What `action` returns in the first process, which alone does it; its error is everybody's."""
    if world() == 1:
        return action()
    outcome: list[Any] = [None, None]
    if is_first():
        try:
            outcome = [action(), None]
        except MtlError as error:
            outcome = [None, error]
    dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


class Agreement:
    """Makes a yes of one process a yes of all.

    It is told one call later, so that no process waits for the others or for its device.
    """

    def __init__(self, asked: Callable[[], bool], device: torch.device) -> None:
        self.asked, self.device = asked, device
        self.pending: Tensor | None = None

    def __call__(self) -> bool:
        """To be called by all processes the same number of times."""
        if world() == 1:
            return self.asked()
        known = self.pending is not None and bool(self.pending.item())
        self.pending = torch.tensor(float(self.asked()), device=self.device)
        dist.all_reduce(self.pending)
        return known
