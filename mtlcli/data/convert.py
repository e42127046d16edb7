"""Writes a dataset file from a plan: on all cores, going on where a killed run stopped.

Until the file is whole it grows in a work folder beside its place. Samples of one size are written
by plain file writes into places reserved in the HDF5 file; samples of differing sizes first go into
shards. Either way the result does not depend on who wrote what when, so its bytes are always the
same.
"""

import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from mtlcli.data import hdf5
from mtlcli.data.hdf5 import Info, keys_of
from mtlcli.data.parallel import run_jobs
from mtlcli.data.stored import encode, image_blob, require_stored_form
from mtlcli.datasets._dataset import Plan, Sample

SHARD = 16  # samples of differing sizes that one job converts


def convert(
    plan: Plan,
    info: Info,
    work: Path,
    out: Path,
    workers: int,
    progress: Callable[[int], object] = lambda done: None,
) -> None:
    """Convert every sample of `plan` and move the finished file to `out`.

    Raises:
        InputError: a sample cannot be read or breaks the rules of the stored form.
        OSError: no space, no permission.
    """
    store = ArrayStore(plan, info, work) if plan.shape else ShardStore(plan, info, work)
    store.begin()
    run_jobs(store.write, range(store.jobs), workers, lambda n: progress(n * store.per_job))
    unfinished = store.finish()
    hdf5.mark_complete(unfinished)
    with open(unfinished, "rb") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, out)


def read_checked(plan: Plan, info: Info, split: str, index: int) -> Sample:
    """One sample of the archive, proven to be in stored form."""
    sample = plan.read(split, index)
    require_stored_form(sample, info, f"{split} sample '{plan.ids[split][index]}'")
    return sample


@dataclass
class Slots:
    """Where the arrays of one split lie in the file: byte positions by key."""

    data: dict[str, np.ndarray]  # (N,) each
    present: dict[str, int]
    crc32: dict[str, int]


class ArrayStore:
    """Samples of one size, each written to its reserved place in the file."""

    per_job = 1

    def __init__(self, plan: Plan, info: Info, work: Path):
        self.plan, self.info = plan, info
        self.path, self.journal = work / "dataset.h5", work / "done"
        self.samples = [(s, i) for s, ids in plan.ids.items() for i in range(len(ids))]
        self.jobs = len(self.samples)

    def begin(self) -> None:
        """Reserve the file, unless a run before did."""
        if self.path.exists():
            return
        draft = self.path.with_suffix(".draft")
        with h5py.File(draft, "w", libver=hdf5.LIBVER) as file:
            hdf5.write_info(file, self.info, complete=False)
            for split, ids in self.plan.ids.items():
                hdf5.create_split(file, split, ids, keys_of(self.info))
                for key in keys_of(self.info):
                    shape = self.info.sample_shape(key)
                    dtype = self.info.dtype(key)
                    hdf5.reserve(file[split], key, (len(ids), *shape), dtype, (1, *shape))
        self.journal.write_bytes(bytes(self.jobs))
        os.replace(draft, self.path)

    @cached_property
    def slots(self) -> dict[str, Slots]:
        """Where everything lies, asked once per process."""
        with h5py.File(self.path, "r") as file:
            return {split: self._slots(file[split]) for split in self.plan.ids}

    def _slots(self, group: h5py.Group) -> Slots:
        keys = keys_of(self.info)
        return Slots(
            data={k: hdf5.chunk_offsets(group[k]) for k in keys},
            present={k: group["present"][k].id.get_offset() for k in keys},
            crc32={k: group["crc32"][k].id.get_offset() for k in keys},
        )

    def write(self, job: int) -> None:
        """Put one sample into its place, unless it stands there already."""
        split, index = self.samples[job]
        slots = self.slots[split]
        with open(self.path, "r+b", buffering=0) as file, open(self.journal, "r+b", 0) as journal:
            journal.seek(job)
            if journal.read(1) == b"\1" and self._stands(file, slots, index):
                return
            sample = read_checked(self.plan, self.info, split, index)
            for key in keys_of(self.info):
                array = np.ascontiguousarray(sample[key]) if key in sample else None
                if array is not None:
                    write_at(file, slots.data[key][index], array.data)
                checksum = 0 if array is None else zlib.crc32(array.data)
                write_at(file, slots.present[key] + index, bytes([array is not None]))
                write_at(file, slots.crc32[key] + 4 * index, np.uint32(checksum).tobytes())
            write_at(journal, job, b"\1")

    def _stands(self, file: BinaryIO, slots: Slots, index: int) -> bool:
        for key in keys_of(self.info):
            file.seek(slots.present[key] + index)
            if file.read(1) == b"\0":
                continue
            file.seek(slots.crc32[key] + 4 * index)
            expected = np.frombuffer(file.read(4), np.uint32)[0]
            shape = self.info.sample_shape(key)
            file.seek(slots.data[key][index])
            stored = file.read(int(np.prod(shape)) * self.info.dtype(key).itemsize)
            if zlib.crc32(stored) != expected:
                return False
        return True

    def finish(self) -> Path:
        """The file with all samples in it."""
        return self.path

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "slots"}


def write_at(file: BinaryIO, position: int, data: bytes | memoryview) -> None:
    """Write all of `data` at a byte position of an unbuffered file."""
    file.seek(position)
    rest = memoryview(data).cast("B")
    while len(rest):
        rest = rest[file.write(rest) :]


class ShardStore:
    """Samples of differing sizes, packed into shards and joined at the end."""

    per_job = SHARD

    def __init__(self, plan: Plan, info: Info, work: Path):
        self.plan, self.info, self.work = plan, info, work
        self.shards = [
            (split, range(start, min(start + SHARD, len(ids))))
            for split, ids in plan.ids.items()
            for start in range(0, len(ids), SHARD)
        ]
        self.jobs = len(self.shards)

    def begin(self) -> None:
        """Nothing to reserve: sizes are not known yet."""

    def _path(self, job: int) -> Path:
        return self.work / f"shard-{job:05d}.npz"

    def write(self, job: int) -> None:
        """Convert the samples of one shard, unless it is there and whole."""
        if load_shard(self._path(job)):
            return
        split, indices = self.shards[job]
        blobs = [self._blobs(split, i) for i in indices]
        draft = self._path(job).with_suffix(".draft")
        with open(draft, "wb") as file:
            np.savez(file, **{k: v for key in keys_of(self.info) for k, v in pack(key, blobs)})  # type: ignore[arg-type]
        os.replace(draft, self._path(job))

    def _blobs(self, split: str, index: int) -> dict[str, bytes]:
        sample = read_checked(self.plan, self.info, split, index)
        return {k: image_blob(v) if k == "image" else encode(v) for k, v in sample.items()}

    def finish(self) -> Path:
        """Join the shards, in order, into the file."""
        path = self.work / "dataset.h5"
        with h5py.File(path, "w", libver=hdf5.LIBVER) as file:
            hdf5.write_info(file, self.info, complete=False)
            for split, ids in self.plan.ids.items():
                hdf5.create_split(file, split, ids, keys_of(self.info))
                for key in keys_of(self.info):
                    self._join(file[split], split, key)
        return path

    def _join(self, group: h5py.Group, split: str, key: str) -> None:
        jobs = [j for j, (s, _) in enumerate(self.shards) if s == split]
        sizes = np.concatenate([np.load(self._path(j))[f"{key}.sizes"] for j in jobs])
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        group.create_dataset(f"{key}/offsets", data=offsets)
        joined = hdf5.reserve(group, f"{key}/bytes", (int(offsets[-1]),), np.dtype(np.uint8))
        for job in jobs:
            shard, (_, part) = np.load(self._path(job)), self.shards[job]
            joined[offsets[part.start] : offsets[part.stop]] = shard[f"{key}.bytes"]
            group["present"][key][part.start : part.stop] = shard[f"{key}.present"]
            group["crc32"][key][part.start : part.stop] = shard[f"{key}.crc32"]


def pack(key: str, blobs: list[dict[str, bytes]]) -> list[tuple[str, np.ndarray]]:
    """One key's blobs of a shard as four arrays: joined bytes, sizes, presence, checksums."""
    parts = [b.get(key, b"") for b in blobs]
    return [
        (f"{key}.bytes", np.frombuffer(b"".join(parts), np.uint8)),
        (f"{key}.sizes", np.array([len(p) for p in parts], np.int64)),
        (f"{key}.present", np.array([key in b for b in blobs], np.uint8)),
        (f"{key}.crc32", np.array([zlib.crc32(p) for p in parts], np.uint32)),
    ]


def load_shard(path: Path) -> Mapping[str, np.ndarray] | None:
    """A shard, all of it read and its checksums verified; None where it is missing or damaged."""
    try:
        with np.load(path) as shard:
            return dict(shard)
    except (OSError, ValueError, zlib.error):
        return None
