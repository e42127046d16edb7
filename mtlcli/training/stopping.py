"""Ctrl-C and SIGTERM let the current iteration end, so that what is saved is whole."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from mtlcli.errors import RunError

Asked = Callable[[], bool]
T = TypeVar("T")


@contextmanager
def stopping() -> Iterator[Asked]:
    """Within it, the signals do nothing but make the function it gives answer True."""
    asked: list[int] = []

    def remember(number: int, frame: Any) -> None:
        asked.append(number)

    previous = {s: signal.signal(s, remember) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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
