"""Any folder of pictures with label files as a dataset, described by a short YAML file.

    name: garden                    # of the dataset; the file name unless given
    root: photos                    # where the patterns begin; the YAML file's folder unless given
    size: [256, 320]                # height and width of a training crop
    splits:
      train: lists/train.txt        # one {id} per line, or a list of ids right here
      val: [a17, a18]
    image: images/{id}.jpg
    tasks:
      semseg: {files: "masks/{id}.png", classes: [grass, path, tree]}   # index per pixel, 255 none
      depth: {files: "depth/{id}.png", metres: 0.001}   # 16-bit PNG and its unit, or .npy in metres
      normals: {files: "normals/{id}.png"}      # 2x/255 - 1, black none; or .npy of unit vectors
      edge: {files: "edges/{id}.png", positive_weight: 0.9}             # white lines on black
      sal: {files: "salient/{id}.png"}                                  # white where salient

A picture without a file for a task has no label there; loss and metric pass over it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mtlcli.colors import voc_palette
from mtlcli.datasets import _decode
from mtlcli.datasets._dataset import Dataset, Files, Plan, Sample
from mtlcli.datasets._folder_entries import check
from mtlcli.errors import InputError

EDGE = {"positive_weight": 0.8, "max_dist": 0.011, "protocol": "seism"}  # as on NYUD
FARTHEST = 1000.0  # metres


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A dataset as its YAML file describes it."""

    name: str
    root: Path
    digest: str  # of the file's text
    splits: Mapping[str, tuple[str, ...]]
    image: str  # pattern with {id}
    tasks: Mapping[str, Mapping[str, Any]]
    DATASET: Dataset

    @classmethod
    def load(cls, path: Path) -> "Recipe":
        """Read and check a YAML file.

        Raises:
            InputError: no such file, or the entry it names is missing, unknown or senseless.
        """
        if not path.is_file():
            raise InputError(f"There is no file {path}; a folder dataset needs its YAML file.")
        text = _text(path)
        said = _parse(path, text)
        check(path, said)
        root = path.parent / said.get("root", ".")
        splits = {s: _ids(path, root, s, v) for s, v in said["splits"].items()}
        name = str(said.get("name", path.stem))
        return cls(
            name=name,
            root=root,
            digest=hashlib.sha256(text.encode()).hexdigest()[:12],
            splits=splits,
            image=said["image"],
            tasks=said["tasks"],
            DATASET=_dataset(said, name, splits),
        )

    def plan(self, files: Files, *, geometry: str | None, limit: int | None) -> Plan:
        """Which samples there are, and how they are read."""
        ids = {s: some[:limit] for s, some in self.splits.items()}
        there = frozenset(files.names())
        for ident in (i for some in ids.values() for i in some):
            if self.image.format(id=ident) not in there:
                raise InputError(f"{files.label} lacks {self.image.format(id=ident)}.")
        normals = self.tasks.get("normals", {}).get("files", "")
        pictures = Pictures(files=files, there=there, ids=ids, image=self.image, tasks=self.tasks)
        return Plan(
            source="folder",
            layout="folder",
            geometry="original sizes",
            ids=ids,
            tasks=self.DATASET.tasks,
            shape=None,
            read=pictures.read,
            vector_normals=normals.endswith(".npy"),
            provenance={t: str(s["files"]) for t, s in self.tasks.items()},
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8; save it as such.") from error


def _parse(path: Path, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        raise InputError(f"{path} is not valid YAML{line}.") from error
    except (ValueError, RecursionError) as error:  # a day that is none; lists in lists in lists
        raise InputError(f"{path} is not valid YAML ({error}).") from error


def _ids(path: Path, root: Path, split: str, said: str | list[Any]) -> tuple[str, ...]:
    if isinstance(said, str):
        file = root / said
        if not file.is_file():
            raise InputError(f"{path}: there is no list {file} for split '{split}'.")
        said = _text(file).split()
        if not said:
            raise InputError(f"{path}: split '{split}' is empty: there is no id in {file}.")
    return tuple(str(i) for i in said)


def _dataset(said: Mapping[str, Any], name: str, splits: Mapping[str, tuple[str, ...]]) -> Dataset:
    classes = {t: tuple(map(str, e["classes"])) for t, e in said["tasks"].items() if "classes" in e}
    options = {}
    if "edge" in said["tasks"]:
        given = said["tasks"]["edge"]
        options["edge"] = EDGE | {k: given[k] for k in EDGE if k in given}
    return Dataset(
        title=str(said.get("title", name)),
        size=(said["size"][0], said["size"][1]),
        splits={s: len(some) for s, some in splits.items()},
        tasks=tuple(said["tasks"]),
        classes=classes,
        palettes={t: voc_palette(len(c) + 1)[1:] for t, c in classes.items()},
        options=options,
    )


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Samples of a folder."""

    files: Files
    there: frozenset[str]
    ids: Mapping[str, tuple[str, ...]]
    image: str
    tasks: Mapping[str, Mapping[str, Any]]

    def read(self, split: str, index: int) -> Sample:
        """One sample in stored form; tasks without a file are absent."""
        ident = self.ids[split][index]
        sample: Sample = {"image": self.files.read(self.image.format(id=ident))}
        for task, entry in self.tasks.items():
            name = entry["files"].format(id=ident)
            if name in self.there:
                sample[task] = _decode.member(self.files, name, Label(task, name, entry))
        return sample


@dataclass(frozen=True)
class Label:
    """Turns the bytes of a label file into its stored form."""

    task: str
    name: str
    entry: Mapping[str, Any]

    def __call__(self, data: bytes) -> np.ndarray:
        array = self.name.endswith(".npy")
        if self.task == "depth":
            raw = _decode.numbers(data) if array else _decode.indices(data).astype(np.float32)
            metres = raw * np.float32(self.entry.get("metres", 1.0))
            return _decode.require_range(metres, 0, FARTHEST, "depth in metres")
        if self.task == "normals":
            return _decode.numbers(data) if array else _decode.colour(data)
        indices = _decode.indices(data)
        if self.task == "edge":
            return np.where(indices > 127, np.uint8(255), np.uint8(0))
        if self.task == "sal":
            return (indices > 127).astype(np.uint8)
        return _decode.require_range(indices, 0, 255, "class").astype(np.uint8)
