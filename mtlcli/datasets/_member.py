"""Reads a member of an archive; every error names the member."""

from collections.abc import Callable
from typing import TypeVar

from mtlcli.datasets._dataset import Files
from mtlcli.errors import InputError

T = TypeVar("T")


def decode_member(files: Files, name: str, decode: Callable[[bytes], T]) -> T:
    """Read and decode one member.

    Raises:
        InputError: the member is missing, cut short or corrupt, or has values it cannot have.
    """
    data = files.read(name)
    try:
        return decode(data)
    except MemoryError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{files.label}: {name}: {reason}; replace that file.") from error
