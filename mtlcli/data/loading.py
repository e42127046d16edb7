"""Processes that prepare batches: how they begin, how much they hold ready, and how they end.

torch's `DataLoader` leaves them alive where an exception keeps its iterator, and Python's exit then
waits for them without end. Here a `with` ends them, whatever happens within.
"""

import multiprocessing as mp
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.queues import Queue
from threading import Timer, current_thread, main_thread
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mtlcli.data import shared_memory
from mtlcli.data.shared_memory import AHEAD, MORE, SHARED, USABLE
from mtlcli.errors import MtlError, RunError, in_one_line

Batch = dict[str, Tensor]

PATIENCE = 2.0  # seconds for a process to end by itself
REASON = 300  # bytes


class Link:
    """What a loader's processes and their parent tell each other without a lock to wait for."""

    def __init__(self) -> None:
        self.closing = mp.get_context().RawValue("b", 0)  # not 0: no more batches are wanted
        self.reason = mp.get_context().RawArray("c", REASON)  # why a process had to end


@contextmanager
def loading(
    samples: Dataset, places: Iterator[list[int]], workers: int, parts: int = 1, pin: bool = False
) -> Iterator[Iterator[tuple[Batch, ...]]]:
    """Batches of samples, `parts` of them at a time; afterwards no process of theirs is left.

    Where there is too little shared memory for all that is prepared in advance, one line says so,
    and less is.

    Args:
        samples: all at one place of `places` are stacked to a batch.
        places: of the samples of each batch.
        workers: processes; 0: this one prepares them.
        parts: batches that are used together.
        pin: whether the batches lie in memory that a CUDA device reads directly.

    Raises:
        MtlError: what a sample raised; RunError: a process died, or has no room for its batches.
    """
    first = next(places, None)
    if first is None:
        yield iter(())
        return
    workers, ahead = fitting(samples, first, workers, parts)
    link = Link()
    loader: DataLoader = DataLoader(
        samples,
        batch_sampler=_chain(first, places),
        num_workers=workers,
        prefetch_factor=ahead if workers else None,
        collate_fn=share if workers else stack,
        worker_init_fn=partial(start_worker, link),
        pin_memory=pin,
        generator=torch.Generator(),  # an iterator draws a number, not from the network's generator
    )
    iterator = None
    try:
        iterator = _begin(loader)
        yield zip(*[_explain(iterator, link)] * parts)
    finally:
        link.closing.value = 1
        if workers and iterator is not None:
            _end(iterator)


def _chain(first: list[int], others: Iterator[list[int]]) -> Iterator[list[int]]:
    yield first
    yield from others


def _begin(loader: DataLoader) -> Any:
    try:
        with _no_alarm():
            return iter(loader)
    except OSError as error:
        raise RunError(
            f"Cannot start processes that prepare batches ({error.strerror or error}): "
            "use --workers 0."
        ) from error


@contextmanager
def _no_alarm() -> Iterator[None]:
    """torch answers the death of a process with an exception wherever this one is just then, be it
    while a checkpoint is written. Whoever waits for a batch learns of it, too, within 5 seconds.
    """
    alarm = getattr(signal, "SIGCHLD", None)
    before = signal.getsignal(alarm) if alarm and current_thread() is main_thread() else None
    try:
        yield
    finally:
        if alarm and before is not None:
            signal.signal(alarm, before)


def _explain(batches: Iterator[Batch], link: Link) -> Iterator[Batch]:
    """The same batches; every failure is an error made for the user."""
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except MtlError as error:
            raise type(error)(innermost(str(error))) from error
        except Exception as error:
            reason = link.reason.value.decode(errors="replace") or innermost(str(error))
            raise RunError(loader_failure(reason)) from error
        yield batch


def loader_failure(reason: str) -> str:
    """What torch says of its loader, with the remedy."""
    line = " ".join(reason.split())
    if "oo many open files" in line:
        return (
            "Too many open files: every prepared batch needs some. "
            "Raise the limit (ulimit -n 4096), or use --workers 0."
        )
    if "No space left" in line or "shared memory" in line:
        return f"{SHARED} is full of prepared batches: use --workers 0, or give it {MORE}."
    if "DataLoader worker" in line:
        first = line.partition(". ")[0].rstrip(".")
        return f"A process that prepares batches died ({first}). Use fewer --workers."
    return f"Batches cannot be prepared: {line}."


def innermost(message: str) -> str:
    """The message of an error that a process passed on with its traceback."""
    last = message.strip().splitlines()[-1] if message.strip() else message
    return last.partition(": ")[2] if "Traceback" in message else message


def _end(iterator: Any) -> None:
    """Ends the processes of a loader: asks them to, then makes them."""
    processes = list(getattr(iterator, "_workers", []))
    impatient = Timer(PATIENCE, lambda: [process.terminate() for process in processes])
    impatient.daemon = True
    impatient.start()
    try:
        iterator._shutdown_workers()
    except RuntimeError:  # one had died already
        pass
    finally:
        impatient.cancel()
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join()


def start_worker(link: Link, worker: int) -> None:
    """A loader process must not multiply its threads by OpenCV's, and leaves stopping to its
    parent: what is meant for all processes, Ctrl-C and the first SIGTERM, does not end it.

    Args:
        link: to the parent; once that wants no more batches, SIGTERM ends the process.
        worker: number of the process.
    """
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, partial(_obey_the_next, link))
    Queue._on_queue_feeder_error = staticmethod(partial(_give_up, link))  # type: ignore[attr-defined]


def _obey_the_next(link: Link, number: int, frame: object) -> None:
    """The parent sends SIGTERM again if it gets no other answer."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if link.closing.value:
        os._exit(0)


def _give_up(link: Link, error: BaseException, batch: object) -> None:
    """A batch that cannot be sent would be waited for without end; so this process ends instead,
    and the parent says why.
    """
    link.reason.value = in_one_line(error).encode()[: REASON - 1]
    os._exit(1)


def stack(samples: list[dict[str, np.ndarray]]) -> Batch:
    """A batch: each array of the samples stacked along a new first dimension."""
    return {key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in samples[0]}


def share(samples: list[dict[str, np.ndarray]]) -> Batch:
    """A batch in shared memory; if that is full it is an error here, which the parent is told, and
    not in the thread that would send the batch.
    """
    return {key: values.share_memory_() for key, values in stack(samples).items()}


def fitting(samples: Dataset, places: Sequence[int], workers: int, parts: int) -> tuple[int, int]:
    """Processes, and batches that each prepares in advance, for which there is shared memory.

    Args:
        samples: of which the first is measured.
        places: of the samples of a batch.
        workers: that are wanted.
        parts: batches that are in use at once.
    """
    there = shared_memory.free()
    if workers == 0 or there is None:
        return workers, AHEAD
    sample: dict[str, np.ndarray] = samples[places[0]]
    needed = len(places) * sum(array.nbytes for array in sample.values())
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes that share it, by torchrun
    found = shared_memory.plan(workers, parts, needed, USABLE * there / beside)
    if found != (workers, AHEAD):
        told = "the batches are prepared by the main process"
        if found[0]:
            told = f"{found[0]} processes prepare {found[1]} each in advance"
        print(
            f"mtl: {SHARED} has room for {there / 1e6:.0f} MB, a batch takes {needed / 1e6:.1f} "
            f"MB: {told}. It is faster with {MORE}.",
            file=sys.stderr,
        )
    return found
