"""Processes that share independent jobs: none outlives its parent, Ctrl-C ends all."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
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


_work: Callable[[Any], Any] | None = None  # in a worker: what `do_given` does


@contextmanager
def worker_pool(
    workers: int, work: Callable[[Any], Any] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """Freshly started processes that ignore Ctrl-C: this process gets it, and ends them.

    They end at once when the block is left by an error or Ctrl-C, and when this process dies. As
    with every such pool, a script must use it below `if __name__ == "__main__":`.

    Args:
        workers: how many.
        work: what `do_given` does there, sent once and not with every job.
    """
    context = get_context("spawn")
    lifeline, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, initializer=partial(_live_by, lifeline, work))
    try:
        with interrupt_ignored():
            for _ in range(workers):
                pool.submit(os.getpid)
        yield pool
    except BaseException:
        # The pool must forget its jobs before it sees workers die: it would fail jobs that were
        # cancelled, which raises in its own thread.
        pool.shutdown(wait=False, cancel_futures=True)
        held.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        held.close()
        lifeline.close()


def do_given(job: Any) -> Any:
    """Do a job in a worker, in the way that its pool was given."""
    assert _work
    return _work(job)


def _live_by(lifeline: Connection, work: Callable[[Any], Any] | None) -> None:
    """End this worker when nobody holds the other end of its lifeline any more."""
    global _work
    _work = work

    def watch() -> None:
        lifeline.poll(None)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
