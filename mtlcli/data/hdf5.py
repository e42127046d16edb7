"""The dataset file: one HDF5 file per dataset, with a group per split and a record of itself.

    attributes of /        every field of `Info` as JSON, `schema`, and `complete`, written last
    /SPLIT/ids             sample names
    /SPLIT/KEY             (N, H, W[, 3]), one plain chunk per sample, where all sizes are equal;
    /SPLIT/KEY/bytes       else all JPEG, PNG or zlib blobs one after the other,
    /SPLIT/KEY/offsets     and where each begins (N + 1 numbers)
    /SPLIT/present/KEY     1 where the sample has this label
    /SPLIT/crc32/KEY       checksum of the sample's stored bytes
KEY is `image`, a task, or labels that are only scored against. Times are not recorded, so equal
content gives equal bytes.
"""

import errno
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mtlcli import lookup, maps
from mtlcli.errors import InputError, in_one_line
from mtlcli.files import require_fitting
from mtlcli.home import datasets_dir
from mtlcli.maps._map import NO_OPTIONS, Map, Options

SCHEMA = 1
SUFFIX = ".h5"
IMAGE = "image"
DAMAGED = (KeyError, ValueError, TypeError, IndexError, AttributeError, OSError, RuntimeError)
"""What damaged bytes make of reading a file."""
LIBVER = ("earliest", "v110")  # readable by every HDF5 in use


@dataclass(frozen=True, kw_only=True)
class Info:
    """What a dataset file knows about itself: all that training and evaluation need."""

    name: str = ""
    title: str = ""
    size: tuple[int, int] = (0, 0)  # height, width of a training crop in pixels
    tasks: tuple[str, ...] = ()
    truths: tuple[str, ...] = ()  # labels that are not learnt, only scored against
    kinds: Mapping[str, str] = field(default_factory=dict)  # task -> kind of map, if not the usual
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    palettes: Mapping[str, tuple[tuple[int, int, int], ...]] = field(default_factory=dict)
    options: Mapping[str, Options] = field(default_factory=dict)  # task -> see `Options`
    expected: Mapping[str, int] = field(default_factory=dict)  # split -> samples of the whole set
    shape: tuple[int, int] | None = None  # of every stored sample; None where they differ
    vector_normals: bool = False  # directions as float32 vectors instead of uint8 codes
    geometry: str = ""
    source: str = ""
    layout: str = ""
    archives: tuple[Mapping[str, Any], ...] = ()  # name, bytes and sha256 of what was converted
    provenance: Mapping[str, str] = field(default_factory=dict)  # task -> origin of its labels
    derived: tuple[str, ...] = ()  # tasks whose labels were computed at preparation
    request: Mapping[str, Any] | None = None  # options `mtl prepare` was given
    terms: str = ""
    tool: str = ""

    def map(self, task: str) -> Map:
        """What the labels of a task look like."""
        return maps.map_of(task, self.kinds, self.options.get(task, NO_OPTIONS))

    def drawing(self, task: str) -> dict[str, Any]:
        """The options that drawing a task's map needs: names and palette among them."""
        return {
            **self.options.get(task, NO_OPTIONS),
            "names": self.classes.get(task, ()),
            "palette": self.palettes.get(task),
        }

    def dtype(self, key: str) -> np.dtype[Any]:
        """The numpy type in which `key` is stored."""
        if key == IMAGE:
            return np.dtype(np.uint8)
        its = self.map(key)
        return np.dtype(its.exact if its.exact and self.vector_normals else its.stored)

    def planes(self, key: str) -> int:
        """Numbers at a pixel of `key`."""
        return 3 if key == IMAGE else self.map(key).planes

    def stored_shape(self, key: str, size: tuple[int, ...]) -> tuple[int, ...]:
        """(H, W) or (H, W, 3) of `key` for a picture of this height and width."""
        return (*size, self.planes(key)) if self.planes(key) > 1 else size

    def sample_shape(self, key: str) -> tuple[int, ...]:
        """The same of every sample, in a file of equal sizes."""
        assert self.shape is not None
        return self.stored_shape(key, self.shape)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Info":
        """From plain types, lists restored as tuples; what an older file lacks is as usual.

        Raises:
            KeyError, TypeError, ValueError: it is no such record.
        """
        require_fitting(cls, record)
        for task, palette in record.get("palettes", {}).items():
            if not all(0 <= value <= 255 for colour in palette for value in colour):
                raise ValueError(f"its palette of '{task}' has what is no colour")
        known = {f.name for f in fields(cls)}
        return cls(**{k: _frozen(v) for k, v in record.items() if k in known})

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return json.loads(json.dumps(asdict(self)))


def write_info(file: h5py.File, info: Info, *, complete: bool) -> None:
    """Put `info` into the attributes of an open file."""
    file.attrs["complete"] = complete
    file.attrs["schema"] = SCHEMA
    for f in fields(info):
        file.attrs[f.name] = json.dumps(getattr(info, f.name), ensure_ascii=False)


def mark_complete(path: Path) -> None:
    """The last write to a dataset file: from here on readers accept it."""
    with h5py.File(path, "r+", libver=LIBVER) as file:
        file.attrs.modify("complete", np.True_)


def open_dataset(path: Path) -> h5py.File:
    """Open a complete dataset file for reading.

    Raises:
        InputError: there is no such file, or it is no complete dataset of this schema.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist{suggest_dataset(path)}")
    try:
        file = _open(path)
        problem = _problem(file.attrs)
    except OSError as error:
        raise InputError(f"{path} {_explain(path, error)}.") from error
    if problem:
        file.close()
        raise InputError(f"{path} {problem}{advise_remaking(path)}.")
    return file


def _open(path: Path) -> h5py.File:
    """The file for reading; without a lock where the file system has none."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "unable to lock" in str(error) and error.errno not in (errno.EAGAIN, errno.EACCES):
            return h5py.File(path, "r", locking=False)
        raise


def _explain(path: Path, error: OSError) -> str:
    if "unable to lock" in str(error):
        return "is open for writing in another program"
    if isinstance(error, PermissionError):
        return "cannot be read: you have no permission"
    short = "truncated" in str(error)
    reason = "is cut short" if short else "is no dataset file: it is not an HDF5 file"
    return f"{reason}{advise_remaking(path)}"


def _problem(attrs: Any) -> str:
    """Why a file is no complete dataset, "" if it is one."""
    try:
        schema, complete = attrs.get("schema"), attrs.get("complete")
        if schema is None or complete is None:
            return "is not a dataset file of this program"
        if schema != SCHEMA:
            return f"has schema {schema}, this program reads schema {SCHEMA}"
        return "" if complete else "is incomplete"
    except (OSError, ValueError, TypeError, RuntimeError, KeyError):
        return "is damaged: it has no readable record of itself"


def advise_remaking(path: Path) -> str:
    """How a file of this name is made anew, to end a sentence; "" for what is no dataset's name."""
    if path.suffix != SUFFIX:
        return ""
    if path.stem in lookup.names("datasets"):
        return f": run `mtl prepare {path.stem} --force`"
    if path.resolve().parent == datasets_dir().resolve():
        return ": make it again with `mtl prepare`, from the YAML file that describes it"
    return ""


def suggest_dataset(path: Path) -> str:
    """What may be meant by a file that is not there, to end a line with."""
    known = lookup.names("datasets")
    prepared = {file.stem: file for file in datasets_dir().glob(f"*{SUFFIX}")}
    if path.stem in prepared:
        return f". Did you mean {prepared[path.stem]}?"
    if path.stem in known:
        return f": run `mtl prepare {path.stem}` first."
    hint = lookup.suggest(path.stem, (*prepared, *known), mark="")
    there = ", ".join(sorted(prepared)) or "none"
    return f".{hint} Prepared: {there}; `mtl prepare NAME` makes {', '.join(known)}."


def read_info(path: Path) -> Info:
    """What the file says about itself (raises InputError as `open_dataset`)."""
    with open_dataset(path) as file:
        return info_of(file)


def info_of(file: h5py.File) -> Info:
    """The record in an open file's attributes, lists restored as tuples.

    Raises:
        InputError: it is damaged, or another program's.
    """
    try:
        there = (f.name for f in fields(Info) if f.name in file.attrs)
        return Info.from_json({name: json.loads(file.attrs[name]) for name in there})
    except DAMAGED as error:
        path = Path(file.filename)
        raise InputError(
            f"{path} has no readable record of itself ({in_one_line(error)})"
            f"{advise_remaking(path)}."
        ) from error


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_frozen(v) for v in value)
    if isinstance(value, dict):
        return {k: _frozen(v) for k, v in value.items()}
    return value


def keys_of(info: Info) -> tuple[str, ...]:
    """The arrays of a sample: the image, then the tasks, then what is only scored against."""
    return (IMAGE, *info.tasks, *info.truths)
