"""A run ends whole: after the iteration when asked to stop, with what was done if it fails; what it
left undone is made up for. Its folder is one process's.
"""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, TypeVar

import torch
from torch import Tensor

from mtlcli.errors import RunError
from mtlcli.ops.processes import by_first, world
from mtlcli.runs.folder import held
from mtlcli.training.failures import Divergence
from mtlcli.training.log import Log
from mtlcli.training.selection import BEST, Selection
from mtlcli.training.state import State, generators, set_generators

Asked = Callable[[], bool]
T = TypeVar("T")


@contextmanager
def stopping() -> Iterator[Asked]:
    """Within it, the signals do nothing but make the function it gives answer True; they are for
    the main thread alone, so in another it answers False.
    """
    if current_thread() is not main_thread():
        yield lambda: False
        return
    asked: list[int] = []

    def remember(number: int, frame: Any) -> None:
        asked.append(number)

    previous = {s: signal.signal(s, remember) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Within it the first process of a run holds its folder (raises as `held`)."""
    with ExitStack() as stack:
        by_first(lambda: stack.enter_context(held(folder)))
        yield


def catch_up(state: State, selection: Selection, log: Log) -> None:
    """Make up for what a run that ended within its last iteration left undone: the line of the log
    with its evaluation, and best.pt.
    """
    done, logged = state.iteration, by_first(lambda: log.last)
    selects = selection.is_due(done)
    if logged < done and (selects or log.is_due(done)):
        log.complete(selection.evaluate() if selects else {})
    if selection.is_best:
        state.save(name=BEST)


def until(asked: Asked, batches: Iterable[T]) -> Iterator[T]:
    """The batches until a stop is asked for.

    A signal to the whole process group ends the loader's processes too: their failure is then no
    error.
    """
    iterator = iter(batches)
    while not asked():
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except RunError:
            if asked():
                return
            raise
        yield batch


class Rescue:
    """Takes a run back to the end of its last complete iteration, and saves it.

    A pass changes buffers (as those of batch normalisation) and generators before the optimiser
    changes a weight: these are remembered at the start of an iteration. While the optimiser steps
    there is no way back.
    """

    def __init__(self, state: State, divergence: Divergence) -> None:
        """
        Args:
            state: of the run.
            divergence: of its losses; what has diverged is not worth saving.
        """
        self.state, self.divergence = state, divergence
        buffers = [*state.network.buffers(), *state.weighting.buffers()]
        buffers.sort(key=lambda buffer: str(buffer.dtype))
        self.places = [list(alike) for _, alike in groupby(buffers, lambda each: each.dtype)]
        self.copies = [[torch.empty_like(each) for each in alike] for alike in self.places]
        self.states: dict[str, Tensor] = {}  # of the generators
        self.computes, self.steps = False, False

    def begin(self) -> None:
        """An iteration begins."""
        for copies, places in zip(self.copies, self.places):
            torch._foreach_copy_(copies, places)
        self.states = generators(self.state.device)
        self.computes = True

    def step(self) -> None:
        """The optimiser begins to change weights."""
        self.steps = True

    def end(self) -> None:
        """An iteration is complete."""
        self.computes = self.steps = False

    def save(self) -> bool:
        """Save what can be saved; returns whether going on from there would help."""
        try:
            if self.divergence.seen() or not self.state.is_finite():
                return False
            if world() == 1 and not self.steps and self.state.iteration != self.state.saved:
                self._go_back()
                self.state.save()
        except Exception:  # a broken device or a full disk: the error that led here is told
            pass
        return True

    def _go_back(self) -> None:
        if self.computes:
            for copies, places in zip(self.copies, self.places):
                torch._foreach_copy_(places, copies)
            set_generators(self.states, self.state.device)
            self.end()
