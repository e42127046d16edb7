"""What the ways to fetch a file from a host have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from mtlcli.data.part import Part

BLOCK = 1 << 18
Report = Callable[[int], object]


class Bars(Protocol):
    """Shows progress in bytes."""

    def bytes(self, title: str, total: int, done: int = 0) -> AbstractContextManager[Report]:
        """A bar with speed and time left."""
        ...


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait, and how often to try again."""

    silence: float = 30.0  # seconds without a byte after which a connection is given up
    attempts: int = 6  # in a row without a new byte, per mirror
    pause: float = 1.0  # seconds before the first repetition, doubled each time
    longest_pause: float = 60.0
    slowest: float = 1024.0  # bytes a second; slower is as good as cut
    slow_for: float = 60.0  # seconds over which that is measured


@dataclass(frozen=True, kw_only=True)
class Way(ABC):
    """Makes the part of one file whole, from one address."""

    file: str  # its name; the ending tells what its first bytes must be
    url: str
    part: Part
    size: int | None  # bytes, where published
    checked: bool  # whether a published checksum will be compared
    bars: Bars
    patience: Patience

    @property
    @abstractmethod
    def begun(self) -> bool:
        """Whether an earlier run left something that this one goes on with."""

    @abstractmethod
    def run(self) -> None:
        """Make the part whole.

        Raises:
            MirrorError: the host cannot give the file.
            RunError, OSError: the disk is full.
        """

    @abstractmethod
    def discard(self) -> None:
        """Delete what there is: it is of no use."""
