"""What the ways to fetch a file from a host have in common: patience, and NAME.part as it grows."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from mtlcli.files import read_json, size_of, write_json

BLOCK = 1 << 18
Report = Callable[[int], object]


@dataclass(frozen=True, kw_only=True)
class Note:
    """What a host said about the file when the part began; None is unknown."""

    validator: str | None = None  # as If-Range may carry it
    total: int | None = None  # bytes of the whole file


@dataclass(frozen=True)
class Part:
    """The bytes there are so far."""

    path: Path

    @classmethod
    def of(cls, folder: Path, file: str) -> "Part":
        """The part of a file that will stand in `folder`."""
        return cls(folder / f"{file}.part")

    @property
    def size(self) -> int:
        """Bytes there are."""
        return size_of(self.path)

    @property
    def _note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def read_note(self, url: str) -> Note:
        """What is noted of this address; whatever is no sane note counts as none."""
        said = read_json(self._note)
        if said.get("url") != url:
            return Note()
        validator, total = said.get("validator"), said.get("total")
        return Note(
            validator=validator if _is_header(validator) else None,
            total=total if type(total) is int and total > 0 else None,
        )

    def note(self, url: str, note: Note) -> None:
        """Write down where the bytes come from."""
        write_json(self._note, {"url": url, **asdict(note)})

    def is_whole(self, url: str, size: int | None) -> bool:
        """Whether all has come: the size that is published, or that the host announced."""
        return self.size > 0 and self.size in (size, self.read_note(url).total)

    def become(self, path: Path) -> None:
        """Move the file to its place."""
        os.replace(self.path, path)
        self.discard()

    def discard(self) -> None:
        """Delete the bytes and the note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def _is_header(value: Any) -> bool:
    """Whether a value can stand in a header as it is, and in no more than one."""
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable()


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
