"""The dataset file: one HDF5 file per dataset, with a group per split and a record of itself.

    attributes of /        every field of `Info` as JSON, `schema`, and `complete`, written last
    /SPLIT/ids             sample names
    /SPLIT/KEY             (N, H, W[, 3]), one plain chunk per sample, where all sizes are equal;
    /SPLIT/KEY/bytes       else all JPEG, PNG or zlib blobs one after the other,
    /SPLIT/KEY/offsets     and where each begins (N + 1 numbers)
    /SPLIT/present/KEY     1 where the sample has this label
    /SPLIT/crc32/KEY       checksum of the sample's stored bytes
KEY is `image` or a task. Times are not recorded, so equal content gives equal bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mtlcli import lookup
from mtlcli.errors import InputError
from mtlcli.home import datasets_dir

SCHEMA = 1
SUFFIX = ".h5"
CHANNELS = {"image": 3, "normals": 3}
LIBVER = ("earliest", "v110")  # readable by every HDF5 in use


@dataclass(frozen=True, kw_only=True)
class Info:
    """What a dataset file knows about itself: all that training and evaluation need."""

    name: str
    title: str
    size: tuple[int, int]  # height, width of a training crop in pixels
    tasks: tuple[str, ...]
    classes: Mapping[str, tuple[str, ...]]
    palettes: Mapping[str, tuple[tuple[int, int, int], ...]]
    options: Mapping[str, Mapping[str, Any]]  # task -> settings of its loss and metric
    expected: Mapping[str, int]  # samples of the complete dataset by split
    shape: tuple[int, int] | None  # of every stored sample; None where they differ
    vector_normals: bool  # normals as float32 vectors instead of uint8 codes
    geometry: str
    source: str
    layout: str
    archives: tuple[Mapping[str, Any], ...]  # name, bytes and sha256 of what was converted
    provenance: Mapping[str, str]  # task -> where its labels come from
    derived: tuple[str, ...]  # tasks whose labels were computed at preparation
    request: Mapping[str, Any] = field(default_factory=dict)  # options `mtl prepare` was given
    terms: str = ""
    tool: str = ""

    def dtype(self, key: str) -> np.dtype:
        """The numpy type in which `key` is stored."""
        vector = key == "normals" and self.vector_normals
        return np.dtype(np.float32 if key == "depth" or vector else np.uint8)

    def sample_shape(self, key: str) -> tuple[int, ...]:
        """(H, W) or (H, W, 3) of `key` in a file of equal sizes."""
        assert self.shape is not None
        return (*self.shape, CHANNELS[key]) if key in CHANNELS else self.shape


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
        raise InputError(f"{path} does not exist{what_is_there(path)}")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        if "unable to lock" in str(error):
            raise InputError(f"{path} is open for writing in another program.") from error
        short = "truncated" in str(error)
        reason = "is cut short" if short else "is no dataset file: it is not an HDF5 file"
        raise InputError(f"{path} {reason}{made_again(path)}.") from error
    attrs = file.attrs
    if "schema" not in attrs or "complete" not in attrs:
        problem = "is not a dataset file of this program"
    elif attrs["schema"] != SCHEMA:
        problem = f"has schema {attrs['schema']}, this program reads schema {SCHEMA}"
    elif not attrs["complete"]:
        problem = "is incomplete"
    else:
        return file
    file.close()
    raise InputError(f"{path} {problem}{made_again(path)}.")


def made_again(path: Path) -> str:
    """How a file of this name is made anew, to end a sentence; "" for what is no dataset's name."""
    if path.suffix != SUFFIX:
        return ""
    if path.stem in lookup.names("datasets"):
        return f": run `mtl prepare {path.stem} --force`"
    if path.resolve().parent == datasets_dir().resolve():
        return ": make it again with `mtl prepare`, from the YAML file that describes it"
    return ""


def what_is_there(path: Path) -> str:
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
    """The record in an open file's attributes, lists restored as tuples."""
    return Info(**{f.name: _frozen(json.loads(file.attrs[f.name])) for f in fields(Info)})


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_frozen(v) for v in value)
    if isinstance(value, dict):
        return {k: _frozen(v) for k, v in value.items()}
    return value


def keys_of(info: Info) -> tuple[str, ...]:
    """The arrays of a sample: the image, then the tasks."""
    return ("image", *info.tasks)


def create_split(file: h5py.File, split: str, ids: tuple[str, ...], keys: tuple[str, ...]) -> None:
    """The parts of a split that both layouts share: names, presence and checksums."""
    group = file.create_group(split)
    group.create_dataset("ids", data=np.array([i.encode() for i in ids]))
    for key in keys:
        reserve(group, f"present/{key}", (len(ids),), np.dtype(np.uint8))
        reserve(group, f"crc32/{key}", (len(ids),), np.dtype(np.uint32))


def reserve(
    group: h5py.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    chunk: tuple[int, ...] | None = None,
) -> h5py.Dataset:
    """A dataset whose place in the file is fixed at once, so that plain writes can fill it."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunk:
        plist.set_chunk(chunk)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plist.set_obj_track_times(False)
    link = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    link.set_create_intermediate_group(True)
    kind = h5py.h5t.py_create(dtype, logical=True)
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(group.id, name.encode(), kind, space, plist, link)
    return group[name]


def chunk_offsets(dataset: h5py.Dataset) -> np.ndarray:
    """Byte position in the file of each sample's chunk, (N,) int64."""
    offsets = np.zeros(dataset.shape[0], np.int64)

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        offsets[chunk.chunk_offset[0]] = chunk.byte_offset

    dataset.id.chunk_iter(note)
    return offsets
