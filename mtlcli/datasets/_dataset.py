"""The record of a dataset: what its labels mean, where they come from, how they become samples.

A sample is a dict in *stored form*, numpy arrays by task name plus `image` (H, W, 3) uint8 RGB; a
task without a label for that sample is absent. `image` may also be the bytes of a JPEG or PNG.
"""

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mtlcli.errors import InputError
from mtlcli.files import read_lines, stays_inside

RGB = tuple[int, int, int]
Sample = dict[str, Any]


class Files(Protocol):
    """The members of an archive or folder, by the path they have inside it."""

    label: str  # the archive as a user would name it

    def names(self) -> tuple[str, ...]:
        """Every regular file, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of one member."""
        ...

    def located(self, name: str) -> Path:
        """A member as a file of its own; copied out of a packed archive once."""
        ...


@dataclass(frozen=True, kw_only=True)
class Remote:
    """One file to download, and how to know that it arrived whole."""

    file: str  # name it gets on this side
    urls: tuple[str, ...]  # mirrors in order; "gdrive:ID" is on Google Drive, "zip:URL" in a zip
    size: int | None = None  # bytes, where known
    sha256: str | None = None  # or its first digits, where no more is published
    md5: str | None = None

    @property
    def is_checked(self) -> bool:
        """Whether a checksum is published."""
        return bool(self.sha256 or self.md5)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One way to obtain a dataset: all its files are needed."""

    title: str
    files: tuple[Remote, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one archive becomes one dataset file: all that is known before a pixel is read."""

    source: str  # key of Dataset.sources, or "generated", "folder"
    layout: str  # as recognised from the archive's content
    geometry: str  # size and crop of the stored samples, in words
    ids: Mapping[str, tuple[str, ...]]  # split -> sample names in order
    tasks: tuple[str, ...]
    shape: tuple[int, int] | None  # height and width of every sample; None where they differ
    read: Callable[[str, int], Sample]  # (split, index) -> sample; picklable
    truths: tuple[str, ...] = ()  # further labels of every sample: not learnt, scored against
    vector_normals: bool = False  # normals as float32 unit vectors instead of uint8 codes
    provenance: Mapping[str, str] = field(default_factory=dict)  # task -> origin of its labels
    derived: tuple[str, ...] = ()  # tasks whose labels were computed here, not published


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What there is to learn; the name of the dataset is the name of the file that defines it."""

    title: str
    size: tuple[int, int]  # height, width of a training crop in pixels
    splits: Mapping[str, int]  # samples of the complete dataset: {"train": 795, "val": 654}
    # Task -> validation pictures that its published scores are of, where these are not all.
    counted: Mapping[str, int] = field(default_factory=dict)
    tasks: tuple[str, ...]
    kinds: Mapping[str, str] = field(default_factory=dict)  # task -> kind of map, if not the usual
    classes: Mapping[str, tuple[str, ...]]  # task -> names, in order of class index
    palettes: Mapping[str, tuple[RGB, ...]]  # task -> colour of each class
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # task -> settings
    sources: Mapping[str, Source] = field(default_factory=dict)  # in order of preference
    terms: str = ""  # what the publishers ask of users
    scenes: str = ""  # what its pictures show, in a few words


T = TypeVar("T")


def decode_member(files: Files, name: str, decode: Callable[[bytes], T]) -> T:
    """Read and decode one member.

    Raises:
        InputError: the member is missing, cut short or corrupt, or has values it cannot have.
    """
    data = files.read(name)
    try:
        return decode(data)
    except MemoryError as error:
        raise InputError(
            f"{files.label}: {name} is too large for this machine's memory."
        ) from error
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{files.label}: {name}: {reason}; replace that file.") from error


def read_ids(files: Files, name: str) -> tuple[str, ...]:
    """The ids of a split list, a member of an archive, as any editor saves it.

    Raises:
        InputError: it is missing, empty, or no text in UTF-8.
    """
    ids = tuple(read_lines(decode_member(files, name, lambda data: data.decode("utf-8-sig"))))
    if not ids:
        raise InputError(f"{files.label}: {name} is empty.")
    return ids


def require_sound_ids(label: str, ids: Mapping[str, Sequence[str]], apart: bool = True) -> None:
    """Check the names of all samples.

    Args:
        label: where they come from.
        ids: of each split.
        apart: whether a sample may be in one split only.

    Raises:
        InputError: one could lead out of a folder, or is there twice.
    """
    seen: dict[str, str] = {}
    for split, some in ids.items():
        if not apart:
            seen = {}
        for ident in some:
            if not stays_inside(ident):
                raise InputError(
                    f"{label}: the id {reprlib.repr(ident)} in '{split}' cannot be the name of a "
                    "file: use letters, digits, points and dashes, with / for folders."
                )
            if ident in seen:
                twice = f"'{seen[ident]}' and '{split}'" if seen[ident] != split else f"'{split}'"
                raise InputError(
                    f"{label}: the id {ident} is there twice, in {twice}; leave one out."
                )
            seen[ident] = split
