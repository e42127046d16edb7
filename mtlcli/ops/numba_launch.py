"""Compiling numba kernels at their first call, and running them on as many threads as torch uses.

The kernels are serial and release the interpreter's lock; plain threads share their units. Numba's
own parallel loops are not used: its thread layers abort when two threads call them at once
(autograd runs backward passes in a thread of its own) or after a fork (data loader workers).
"""

import inspect
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numba import njit

from mtlcli.ops import numba_cells, numba_lanes
from mtlcli.ops.numba_cells import OPTIONS

CHUNKS_PER_THREAD = 16
log = logging.getLogger(__name__)


@cache
def compiled(function: Callable[..., Any]) -> Any:
    """The function as a numba kernel, kept on disk where a folder for that can be written."""
    try:
        return njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # numba found no folder it may write to
        return njit(**OPTIONS)(function)


def run_units(function: Callable[..., Any], units: int, *args: Any) -> None:
    """Call the kernel `function(first, last, *args)` until it has done units 0 to `units` - 1.

    Units must write to places of their own: then the result does not depend on the threads.
    """
    kernel = compiled(function)
    _compile(kernel, args)
    threads = max(1, min(torch.get_num_threads(), units))
    step = max(1, units // (CHUNKS_PER_THREAD * threads))
    starts = iter(range(0, units, step))

    def work() -> None:
        for start in starts:
            kernel(start, min(start + step, units), *args)

    others = [_pool(os.getpid(), threads - 1).submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        other.result()


def _compile(kernel: Any, args: tuple[Any, ...]) -> None:
    """Run no units, so that the first call for new types compiles here, once, and is reported."""
    known, loaded = len(kernel.signatures), kernel.stats.cache_hits.total()
    began = time.perf_counter()
    kernel(0, 0, *args)
    seconds = time.perf_counter() - began
    if len(kernel.signatures) > known and kernel.stats.cache_hits.total() == loaded:
        log.info("compiled the CPU kernel '%s' in %.1f s", kernel.__name__, seconds)


@cache
def edition() -> np.ndarray:
    """No items, of a type that is named after the text of what kernels are built from.

    Numba's folder of compiled kernels goes by types and by the file a kernel stands in: of changes
    in the modules that the kernel imports it would not know.
    """
    text = "".join(inspect.getsource(module) for module in (numba_cells, numba_lanes))
    return np.empty(0, [("edition_" + sha256(text.encode()).hexdigest()[:16], np.int8)])


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of this process: a forked child inherits the object but not its threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"deformable-attention-{process}")
