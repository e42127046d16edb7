"""Ctrl-C (SIGINT) held back where it would do harm; without effect outside the main thread."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupt_held() -> Iterator[None]:
    """Deliver a Ctrl-C when the block is done: inside compiled code it can crash the process."""
    pending = False

    def note(*_: Any) -> None:
        nonlocal pending
        pending = True

    with _handled_by(note):
        yield
    if pending:
        signal.raise_signal(signal.SIGINT)


@contextmanager
def interrupt_ignored() -> Iterator[None]:
    """Processes started inside the block inherit that Ctrl-C is ignored."""
    with _handled_by(signal.SIG_IGN):
        yield


@contextmanager
def _handled_by(handler: Any) -> Iterator[None]:
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if not is_main or before is None:
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
