"""Runs independent jobs on all cores; the first error stops all."""

from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool

from mtlcli.boundary.pool import do_given, worker_pool
from mtlcli.errors import MtlError, RunError

SERIAL_BELOW = 8  # jobs; starting processes takes longer than doing so few


def run_jobs(
    work: Callable[[int], None],
    jobs: Sequence[int],
    workers: int,
    progress: Callable[[int], object] = lambda done: None,
) -> None:
    """Call `work(job)` for every job, on several processes; `work` must be picklable.

    `progress` is told of every job that has ended, in the order of the jobs.

    Raises:
        MtlError, OSError: the first that a job raised.
        RunError: a job failed otherwise, or a worker ended without a word, as the system's memory
            guard makes them.
    """
    if workers <= 1 or len(jobs) < SERIAL_BELOW:
        for job in jobs:
            work(job)
            progress(1)
        return
    try:
        with worker_pool(min(workers, len(jobs)), work) as pool:
            for _ in pool.map(do_given, jobs):
                progress(1)
    except (MtlError, OSError):
        raise
    except BrokenProcessPool:
        raise RunError(
            "A worker process was killed (out of memory?); run the command again to go on."
        ) from None
    except Exception as error:
        raise RunError(f"{type(error).__name__}: {error}") from error
