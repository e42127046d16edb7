"""The room for batches on their way from the processes that prepare them."""

import shutil
from pathlib import Path

SHARED = Path("/dev/shm")  # batches go from process to process through files there
AHEAD = 2  # batches that each process prepares in advance
USABLE = 0.8  # of what is free there
MORE = "more (docker run --shm-size 1g)"


def plan(workers: int, parts: int, batch: float, room: float) -> tuple[int, int]:
    """The most processes, and batches in advance for each, whose batches fit; (0, `AHEAD`) if none.

    Args:
        workers: the most there may be.
        parts: batches that are in use at once.
        batch: bytes of one.
        room: bytes that there are.
    """
    ways = ((count, ahead) for count in range(workers, 0, -1) for ahead in range(AHEAD, 0, -1))
    return next((way for way in ways if (way[0] * way[1] + parts) * batch <= room), (0, AHEAD))


def free() -> int | None:
    """Bytes that new batches may take; None where shared memory is not a folder with a limit."""
    try:
        return shutil.disk_usage(SHARED).free
    except OSError:
        return None
