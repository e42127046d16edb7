"""Runs independent jobs on all cores; no worker outlives its parent, the first error stops all."""

import multiprocessing as mp
import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from mtlcli.errors import MtlError, RunError

SERIAL_BELOW = 8  # jobs; starting processes takes longer than doing so few


def run_jobs(
    work: Callable[[int], None],
    jobs: Sequence[int],
    workers: int,
    progress: Callable[[int], object] = lambda done: None,
) -> None:
    """Call `work(job)` for every job, in any order; `work` must be picklable.

    `progress` is told how many jobs have ended since it was last told.

    Raises:
        MtlError: the first that a job raised.
        RunError: a worker ended without a word, as the system's memory guard makes them.
    """
    if workers <= 1 or len(jobs) < SERIAL_BELOW:
        for job in jobs:
            work(job)
            progress(1)
        return
    context = mp.get_context("spawn")
    taken, done = context.Value("q", 0), context.Value("q", 0)
    ends: list[Connection] = []
    processes = []
    for _ in range(min(workers, len(jobs))):
        end, far_end = context.Pipe(duplex=False)
        args = (work, tuple(jobs), taken, done, far_end, os.getpid())
        process = context.Process(target=_serve, args=args, daemon=True)
        process.start()
        far_end.close()
        ends.append(end)
        processes.append(process)
    try:
        _watch(ends, done, progress)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _watch(ends: list[Connection], done: Any, progress: Callable[[int], object]) -> None:
    told, waiting = 0, set(ends)
    while waiting:
        for end in wait(list(waiting), timeout=0.2):
            waiting.discard(end)  # type: ignore[arg-type]
            _raise_failure(end)  # type: ignore[arg-type]
        now = done.value
        progress(now - told)
        told = now


def _raise_failure(end: Connection) -> None:
    try:
        failure = end.recv()
    except EOFError:
        raise RunError(
            "A worker process was killed (out of memory?); run the command again to go on."
        ) from None
    if failure is not None:
        raise failure


def _serve(
    work: Callable[[int], None],
    jobs: Sequence[int],
    taken: Any,
    done: Any,
    report: Connection,
    parent: int,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        while os.getppid() == parent:
            with taken.get_lock():
                mine = taken.value
                taken.value += 1
            if mine >= len(jobs):
                break
            work(jobs[mine])
            with done.get_lock():
                done.value += 1
        report.send(None)
    except (MtlError, OSError) as error:
        report.send(error)
    except Exception as error:
        report.send(RunError(f"{type(error).__name__}: {error}"))
