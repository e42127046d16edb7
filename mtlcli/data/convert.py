"""Writes a dataset file from a plan: all cores convert, one writer writes, in order.

Until the file is whole it grows in a work folder beside its place. What it holds does not depend on
who converted what when, so its bytes are always the same; a run that was killed begins it anew.
"""

import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import h5py
import numpy as np

from mtlcli.data import hdf5
from mtlcli.data.hdf5 import IMAGE, Info, keys_of
from mtlcli.data.parallel import in_order
from mtlcli.data.stored import encode, image_blob, require_stored_form
from mtlcli.datasets._dataset import Plan
from mtlcli.errors import InputError, MtlError, in_one_line
from mtlcli.maps._map import Map
from mtlcli.maps._picture import is_taken_for_12_bits

Parts = dict[str, np.ndarray]  # what is written of a sample, by key
Tally = dict[str, "Seen"]  # by task


@dataclass
class Seen:
    """What the labels of a task hold, or the pictures, in one sample or in all of a split."""

    pixels: int = 0
    labelled: int = 0
    positive: int = 0  # of these, pixels that are not zero
    dim: int = 0  # pictures of 16 bits that are taken for 12

    def add(self, other: "Seen") -> None:
        """Count those of another sample."""
        self.pixels += other.pixels
        self.labelled += other.labelled
        self.positive += other.positive
        self.dim += other.dim


COPIED = 1 << 26  # bytes at once


def convert(
    plan: Plan,
    info: Info,
    work: Path,
    out: Path,
    workers: int,
    progress: Callable[[int], object] = lambda done: None,
) -> dict[str, Tally]:
    """Convert every sample of `plan`, move the finished file to `out`, and say what was seen of
    the labels of each split, and of its pictures.

    Raises:
        InputError: a sample cannot be read or breaks the rules of the stored form.
        OSError: no space, no permission.
    """
    unfinished = work / "dataset.h5"
    places = [(split, index) for split, ids in plan.ids.items() for index in range(len(ids))]
    converted = in_order(partial(convert_sample, plan, info), places, workers)
    tallies = {split: {key: Seen() for key in keys_of(info)} for split in plan.ids}
    with closing(converted), h5py.File(unfinished, "w", libver=hdf5.LIBVER) as file:
        hdf5.write_info(file, info, complete=False)
        for split, ids in plan.ids.items():
            group, samples = (
                file.create_group(split),
                _count(islice(converted, len(ids)), tallies[split], progress),
            )
            group.create_dataset("ids", data=np.array([i.encode() for i in ids]))
            if plan.shape:
                write_arrays(group, info, len(ids), samples)
            else:
                write_blobs(group, info, len(ids), samples, work)
    hdf5.mark_complete(unfinished)
    with open(unfinished, "rb") as finished:
        os.fsync(finished.fileno())
    os.replace(unfinished, out)
    return tallies


def _count(
    samples: Iterator[tuple[Parts, Tally]], tally: Tally, progress: Callable[[int], object]
) -> Iterator[Parts]:
    for parts, seen in samples:
        for task, its in seen.items():
            tally[task].add(its)
        yield parts
        progress(1)


def convert_sample(plan: Plan, info: Info, place: tuple[str, int]) -> tuple[Parts, Tally]:
    """One sample of the archive, proven to be in stored form: its arrays where all have one size,
    else the bytes of its blobs; and what its labels hold.
    """
    split, index = place
    where = f"{split} sample '{plan.ids[split][index]}'"
    with naming(where):
        sample = plan.read(split, index)
    require_stored_form(sample, info, where)
    seen = {
        key: look_at_image(array) if key == IMAGE else look_at(info.map(key), array)
        for key, array in sample.items()
    }
    if plan.shape:
        return {key: np.ascontiguousarray(array) for key, array in sample.items()}, seen
    blobs = {k: image_blob(v) if k == IMAGE else encode(v) for k, v in sample.items()}
    return {key: np.frombuffer(blob, np.uint8) for key, blob in blobs.items()}, seen


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Whatever labels that do not fit make of reading them says of which sample it is.

    Raises:
        InputError: in place of anything but what names a file, a full disk or a want of memory.
    """
    try:
        yield
    except (MtlError, OSError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{where} cannot be used ({in_one_line(error)}); replace it.") from error


def look_at(its: Map, stored: np.ndarray) -> Seen:
    """Count one label."""
    labelled = its.labelled(stored)
    positive = int(np.count_nonzero(stored[labelled])) if its.is_binary else 0
    return Seen(pixels=labelled.size, labelled=int(labelled.sum()), positive=positive)


def look_at_image(image: np.ndarray | bytes) -> Seen:
    """Count one picture."""
    dim = isinstance(image, bytes) and is_taken_for_12_bits(io.BytesIO(image))
    return Seen(dim=int(dim))


class Ledger:
    """Which samples of a split have a key, and the checksums of what was written."""

    def __init__(self, info: Info, count: int) -> None:
        self.present = {key: np.zeros(count, np.uint8) for key in keys_of(info)}
        self.crc32 = {key: np.zeros(count, np.uint32) for key in keys_of(info)}

    def note(self, index: int, parts: Parts) -> None:
        """Remember what was written of a sample."""
        for key, array in parts.items():
            self.present[key][index] = 1
            self.crc32[key][index] = zlib.crc32(array.data)

    def write(self, group: h5py.Group) -> None:
        """Write it all, at the end of the split."""
        for key in self.present:
            group.create_dataset(f"present/{key}", data=self.present[key])
            group.create_dataset(f"crc32/{key}", data=self.crc32[key])


def write_arrays(group: h5py.Group, info: Info, count: int, samples: Iterator[Parts]) -> None:
    """Write samples of one size: an array for each key, with a chunk for each sample."""
    for key in keys_of(info):
        shape = info.sample_shape(key)
        group.create_dataset(key, (count, *shape), info.dtype(key), chunks=(1, *shape))
    ledger = Ledger(info, count)
    for index, parts in enumerate(samples):
        for key, array in parts.items():
            group[key][index] = array
        ledger.note(index, parts)
    ledger.write(group)


def write_blobs(
    group: h5py.Group, info: Info, count: int, samples: Iterator[Parts], work: Path
) -> None:
    """Write samples of differing sizes: for each key all blobs one after the other.

    How long they are together is known at the end, so until then they lie in files of their own.
    """
    paths = {key: work / f"{key}.blobs" for key in keys_of(info)}
    sizes = {key: np.zeros(count, np.int64) for key in paths}
    ledger = Ledger(info, count)
    with ExitStack() as stack:
        files = {key: stack.enter_context(open(path, "wb")) for key, path in paths.items()}
        for index, parts in enumerate(samples):
            for key, blob in parts.items():
                files[key].write(blob.data)
                sizes[key][index] = len(blob)
            ledger.note(index, parts)
    for key, path in paths.items():
        offsets = np.concatenate([[0], np.cumsum(sizes[key])]).astype(np.int64)
        group.create_dataset(f"{key}/offsets", data=offsets)
        joined = group.create_dataset(f"{key}/bytes", (int(offsets[-1]),), np.uint8)
        with open(path, "rb") as file:
            for start in range(0, len(joined), COPIED):
                block = np.frombuffer(file.read(COPIED), np.uint8)
                joined[start : start + len(block)] = block
        path.unlink()
    ledger.write(group)
