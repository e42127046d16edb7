"""How the kernels are compiled: by numba, the machine code kept on disk where possible."""

from collections.abc import Callable
from typing import Any

from numba import njit


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` at its first call, and keep the result for the next process.

    The first call ever costs seconds, later processes load the result from numba's cache. Where
    no cache folder can be written the kernel is compiled anew by every process.
    """
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba: no folder for the cache can be written
        return njit(nogil=True)(function)
