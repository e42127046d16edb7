"""Reads samples of a dataset file; each process, forked or spawned, opens the file itself."""

import hashlib
import os
import reprlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mtlcli.data.hdf5 import DAMAGED, Info, advise_remaking, info_of, open_dataset
from mtlcli.data.stored import decode
from mtlcli.errors import InputError, in_one_line
from mtlcli.files import stays_inside

Sample = dict[str, np.ndarray]


class Reader:
    """The samples of one split in stored form: `reader[i]` is a dict of numpy arrays.

    image uint8 (H, W, 3) RGB; by kind of map (see `mtlcli.maps`) classes uint8 (H, W) index, 255
    ignored; foreground uint8 (H, W) 0/1, 255 ignored; boundaries uint8 (H, W), 255 on a boundary, 0
    off it; depth float32 (H, W) metres, 0 invalid; directions uint8 (H, W, 3) codes n = 2x/255 - 1
    with (0, 0, 0) invalid, or float32 (H, W, 3) unit vectors with the zero vector invalid. A task
    without a label for the sample is absent.

    Raises:
        InputError: no such file, split or task, or not a complete dataset file.
    """

    def __init__(self, path: Path | str, split: str, tasks: Sequence[str] | None = None):
        self.path, self.split = Path(path), split
        with open_dataset(self.path) as file:
            self.info: Info = info_of(file)
            self.keys = ("image", *self._require_tasks(tasks))
            try:
                self._read_index(file)
            except DAMAGED as error:
                raise InputError(
                    f"{self.path} is damaged: its split '{split}' cannot be read "
                    f"({in_one_line(error)}){advise_remaking(self.path)}."
                ) from error
        self._file: h5py.File | None = None
        self._pid = -1

    def _read_index(self, file: h5py.File) -> None:
        """What is known of all samples: names, what they have, where it lies, its checksums."""
        if self.split not in tuple(file):
            there = ", ".join(s for s in self.info.expected if s in tuple(file))
            raise InputError(f"{self.path} has no split '{self.split}'; it has {there}.")
        group = file[self.split]
        self.ids = tuple(i.decode() for i in group["ids"][:])
        unsafe = next((i for i in self.ids if not stays_inside(i)), None)
        if unsafe is not None or not self.ids:
            raise ValueError(f"{reprlib.repr(unsafe)} is no id" if self.ids else "it has no sample")
        held = (*self.keys, *self.info.truths)
        self._present = {k: group["present"][k][:].astype(bool) for k in held}
        self._crc32 = {k: group["crc32"][k][:].astype(np.uint32) for k in held}
        self._compared = {k: np.zeros(len(self.ids), bool) for k in held}
        self._offsets = self._read_offsets(group)
        for key in held:
            self._require_room(group[key], key)

    def _require_room(self, stored: Any, key: str) -> None:
        """That there is as much of `key` as there are samples (raises ValueError if not)."""
        count = len(self.ids)
        if not len(self._present[key]) == len(self._crc32[key]) == count:
            raise ValueError(f"not every sample has a checksum of {key}")
        if self.info.shape is not None:
            if (stored.shape, stored.dtype) != (
                (count, *self.info.sample_shape(key)), self.info.dtype(key)
            ):  # fmt: skip
                raise ValueError(f"{key} is {stored.dtype}{stored.shape}")
            return
        offsets = self._offsets[key]
        if offsets.shape != (count + 1,) or offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise ValueError(f"{key} has no places")
        if offsets[-1] != len(stored["bytes"]) or stored["bytes"].dtype != np.uint8:
            raise ValueError(f"{key} has {len(stored['bytes'])} bytes, not {offsets[-1]}")

    def _require_tasks(self, tasks: Sequence[str] | None) -> tuple[str, ...]:
        wanted = self.info.tasks if tasks is None else tuple(tasks)
        for task in wanted:
            if task not in self.info.tasks:
                there = ", ".join(self.info.tasks)
                raise InputError(f"{self.path} has no labels for task '{task}'; it has {there}.")
        return wanted

    def _read_offsets(self, group: h5py.Group) -> dict[str, np.ndarray]:
        if self.info.shape is not None:
            return {}
        return {key: group[key]["offsets"][:] for key in self._present}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index %= len(self)
        return {k: self.read(k, index) for k in self.keys if self._present[k][index]}

    def truths(self, index: int) -> Sample:
        """The labels of a sample that are only scored against."""
        return {k: self.read(k, index) for k in self.info.truths if self._present[k][index]}

    def read(self, key: str, index: int) -> np.ndarray:
        """One array of one sample: `image`, a task or what is only scored against; the first time a
        process reads it, its bytes are compared with their checksum.

        Raises:
            InputError: they are damaged.
        """
        try:
            raw = self._raw(key, index)
            if not self._compared[key][index]:
                if zlib.crc32(raw.data) != self._crc32[key][index]:
                    raise ValueError("its checksum does not hold")
                self._compared[key][index] = True
            return decode(raw.tobytes()) if self.info.shape is None else raw
        except DAMAGED as error:
            raise InputError(
                f"{self.path} is damaged: {self.split} sample '{self.ids[index]}' ({key}): "
                f"{str(error).splitlines()[0]}{advise_remaking(self.path)}."
            ) from error

    def _raw(self, key: str, index: int) -> np.ndarray:
        """The array, or the bytes of its blob, whose checksum the file holds."""
        if self.info.shape is not None:
            return self._group()[key][index]
        start, end = self._offsets[key][index : index + 2]
        return self._group()[key]["bytes"][start:end]

    def has(self, key: str) -> np.ndarray:
        """(N,) bool: which samples have `key`."""
        return self._present[key]

    def is_sound(self, key: str, index: int) -> bool:
        """Whether the stored bytes still have the checksum they were written with."""
        try:
            return zlib.crc32(self._raw(key, index).data) == self._crc32[key][index]
        except DAMAGED:
            return False

    def fingerprint(self) -> str:
        """A digest of all samples of this split: of their names, and of the checksums of what is
        read from them.
        """
        digest = hashlib.sha256("\n".join(self.ids).encode())
        for key in self._present:
            digest.update(key.encode() + self.has(key).tobytes())
            digest.update(self._crc32[key].tobytes())
        return digest.hexdigest()

    def _group(self) -> h5py.Group:
        if self._file is None or self._pid != os.getpid():
            self.close()  # a handle inherited over fork shares the parent's file position
            self._file, self._pid = open_dataset(self.path), os.getpid()
        return self._file[self.split]

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_pid": -1}
