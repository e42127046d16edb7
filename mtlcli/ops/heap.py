"""The heap of the C library, which keeps memory that was freed."""

import ctypes
import sys


def trim() -> None:
    """Give freed memory back to the system, where the C library is glibc.

    Large tensors between which small things are allocated and kept leave holes that glibc does not
    fill again (https://sourceware.org/bugzilla/show_bug.cgi?id=14581).
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
