"""How many cores a network on the CPU shall have while other threads read and draw."""

import time
from collections.abc import Iterator
from itertools import islice
from typing import TypeVar

import torch

T = TypeVar("T")
SETTLING, TRIED = 2, 5  # steps with another number of threads: not counted, then counted


def paced(shots: Iterator[T]) -> Iterator[T]:
    """The same shots. During the first ones torch works with all its threads and with one less,
    which leaves a core to what runs beside it; the quicker number stays until the end.
    """
    most = torch.get_num_threads()
    seconds: dict[int, float] = {}
    try:
        for threads in sorted({most, max(1, most - 1)}):
            torch.set_num_threads(threads)
            yield from islice(shots, SETTLING)
            began = time.perf_counter()
            yield from islice(shots, TRIED)
            seconds[threads] = time.perf_counter() - began
        torch.set_num_threads(min(seconds, key=lambda threads: seconds[threads]))
        yield from shots
    finally:
        torch.set_num_threads(most)
