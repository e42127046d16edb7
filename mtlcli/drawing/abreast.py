"""Several things worked on at once, each on its share of the processor's cores."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

S = TypeVar("S")
T = TypeVar("T")


def abreast(work: Callable[[S], T], things: Iterator[S], workers: int) -> Iterator[tuple[S, T]]:
    """Each thing and what `work` makes of it, in order; so many are worked on at a time.

    torch's threads are shared out among the workers. One network on all cores would wait at each of
    its layers for the core that also reads or draws; of several, only one does.
    """
    threads = torch.get_num_threads()
    share = max(1, threads // workers)
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,))
    begun: deque = deque()
    try:
        for thing in things:
            begun.append((thing, pool.submit(work, thing)))
            if len(begun) > workers:
                yield finished(begun)
        while begun:
            yield finished(begun)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # which the workers set for all threads that begin later


def finished(begun: deque) -> tuple[S, T]:
    """The first of those begun, as soon as it is done."""
    thing, future = begun.popleft()
    return thing, future.result()
