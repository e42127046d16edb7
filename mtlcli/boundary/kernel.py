"""How the boundary package compiles its kernels: numba's machine code, kept on disk when possible."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compile `function` at its first call, and keep the result for the next process.

    The first call ever costs seconds, later processes load the result from numba's cache. Where
    no cache folder can be written the kernel is compiled anew by every process.
    """
    try:
        return njit(cache=True)(function)
    except RuntimeError:  # numba: no folder for the cache can be written
        return njit(function)
