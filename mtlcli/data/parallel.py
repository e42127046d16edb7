"""Runs independent jobs on all cores, results in order; the first error stops all."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from mtlcli.boundary.pool import do_given, worker_pool
from mtlcli.errors import MtlError, RunError

Job = TypeVar("Job")
Result = TypeVar("Result")
SERIAL_BELOW = 8  # jobs; starting processes takes longer than doing so few
MOST_WORKERS = 256
AHEAD = 4  # jobs a process that are begun before their result is asked for


def in_order(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Generator[Result]:
    """`work(job)` for every job, in the order of the jobs; `work` must be picklable.

    Raises:
        MtlError, OSError: the first that a job raised.
        RunError: a job failed otherwise, or a worker ended without a word, as the system's memory
            guard makes them.
    """
    if workers <= 1 or len(jobs) < SERIAL_BELOW:
        yield from map(work, jobs)
        return
    workers = min(workers, len(jobs), MOST_WORKERS)
    with worker_pool(workers, work) as pool:
        begun: deque[Future[Result]] = deque()
        try:
            for job in jobs:
                begun.append(pool.submit(do_given, job))
                if len(begun) == AHEAD * workers:
                    yield _result(begun.popleft())
            while begun:
                yield _result(begun.popleft())
        except BrokenProcessPool:  # of a result, or of the next job that is begun
            raise RunError(
                "A worker process was killed (out of memory?); run the command again."
            ) from None


def _result(future: "Future[Result]") -> Result:
    try:
        return future.result()
    except (MtlError, OSError, BrokenProcessPool):
        raise
    except Exception as error:
        raise RunError(f"{type(error).__name__}: {error}") from error
