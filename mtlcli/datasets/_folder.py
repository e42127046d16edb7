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
      normals: {files: "normals/{id}.png"}    # 2x/255 - 1, black or grey none; or .npy of vectors
      edge: {files: "edges/{id}.png", positive_weight: 0.9}             # white lines on black
      sal: {files: "salient/{id}.png"}                                  # white where salient
      heat: {kind: depth, files: "heat/{id}.npy", unit: "°C", zoom: false}      # a task of your own

A task of another name says its `kind`: classes, depth, directions, boundaries or foreground (see
`mtlcli.maps`), and may have a `title`. Depth may have another `unit`; `zoom: false` says that its
values stay what they are when a thing is seen from nearer, as heights and temperatures do.

Ids and names are text as it stands there (0010, 1.10, yes); an id may have folders (kitchen/0001)
and is in one split only. Pictures and labels are of any kind that `mtlcli.maps._picture` reads, and
turned upright. White on black is also 1 on 0, a file of 1 bit, or a palette of light and dark.
Depth that is not finite or not above 0 was not measured.

A picture without a file for a task has no label there; loss and metric pass over it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mtlcli import lookup
from mtlcli.datasets._dataset import Dataset, Files, Plan, Sample, decode_member
from mtlcli.datasets._folder_entries import NAME, check
from mtlcli.errors import InputError
from mtlcli.files import read_lines
from mtlcli.maps import map_of
from mtlcli.maps._colours import voc_palette
from mtlcli.maps._map import Map


@dataclass(frozen=True, kw_only=True)
class FolderDataset:
    """A dataset as its YAML file describes it."""

    name: str
    root: Path
    digest: str  # of what it says, of the ids, and of the names and sizes of their files
    splits: Mapping[str, tuple[str, ...]]
    image: str  # pattern with {id}
    tasks: Mapping[str, Mapping[str, Any]]
    DATASET: Dataset

    @classmethod
    def load(cls, path: Path) -> "FolderDataset":
        """Read and check a YAML file.

        Raises:
            InputError: no such file, or the entry it names is missing, unknown or senseless.
        """
        if not path.is_file():
            raise InputError(f"There is no file {path}; a folder dataset needs its YAML file.")
        text = _text(path)
        said = check(path, _parse(path, text))
        root = path.parent / said.get("root", ".")
        if not root.exists():
            raise InputError(f"{path}: root: there is no folder {root}.")
        splits = {s: _ids(path, root, s, v) for s, v in said["splits"].items()}
        name = said.get("name", path.stem)
        if not NAME.fullmatch(name):
            raise InputError(
                f"{path}: its name cannot be that of a dataset: add name: and letters, digits, "
                "points and dashes."
            )
        if name in lookup.names("datasets"):
            raise InputError(
                f"{path}: '{name}' is a dataset of the program: add name: and another name."
            )
        patterns = (said["image"], *(entry["files"] for entry in said["tasks"].values()))
        return cls(
            name=name,
            root=root,
            digest=_digest(text, root, splits, patterns),
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
        exact = any(
            s["files"].endswith(".npy") for t, s in self.tasks.items() if self._map(t).exact
        )
        maps = {task: self._map(task) for task in self.tasks}
        pictures = Pictures(
            files=files, there=there, ids=ids, image=self.image, tasks=self.tasks, maps=maps
        )
        return Plan(
            source="folder",
            layout="folder",
            geometry="original sizes",
            ids=ids,
            tasks=self.DATASET.tasks,
            shape=None,
            read=pictures.read,
            vector_normals=exact,
            provenance={t: s["files"] for t, s in self.tasks.items()},
        )

    def _map(self, task: str) -> Map:
        return map_of(task, self.DATASET.kinds)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8; save it as such.") from error


class _AsWritten(yaml.BaseLoader):
    """Leaves every value the text it is; refuses what stands twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """See `yaml.BaseLoader`."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise InputError(f"'{key.value}' stands twice (line {key.start_mark.line + 1})")
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def _parse(path: Path, text: str) -> Any:
    try:
        return yaml.load(text, _AsWritten)
    except InputError as error:
        raise InputError(f"{path}: {error}.") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        raise InputError(f"{path} is not valid YAML{line}.") from error
    except (ValueError, RecursionError) as error:  # lists in lists in lists
        raise InputError(f"{path} is not valid YAML ({error}).") from error


def _ids(path: Path, root: Path, split: str, said: str | list[str]) -> tuple[str, ...]:
    if isinstance(said, str):
        file = root / said
        if not file.is_file():
            raise InputError(f"{path}: there is no list {file} for split '{split}'.")
        said = read_lines(_text(file))
        if not said:
            raise InputError(f"{path}: split '{split}' is empty: there is no id in {file}.")
    return tuple(said)


def _digest(
    text: str, root: Path, splits: Mapping[str, tuple[str, ...]], patterns: Sequence[str]
) -> str:
    digest = hashlib.sha256(text.encode())
    for split, ids in splits.items():
        for ident in ids:
            sizes = [_size_of(root / pattern.format(id=ident)) for pattern in patterns]
            digest.update(f"{split} {ident} {sizes}\n".encode())
    return digest.hexdigest()[:12]


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (OSError, ValueError):  # not there, or no name that can be
        return None


def _dataset(said: Mapping[str, Any], name: str, splits: Mapping[str, tuple[str, ...]]) -> Dataset:
    classes = {t: tuple(e["classes"]) for t, e in said["tasks"].items() if "classes" in e}
    kinds = {t: e["kind"] for t, e in said["tasks"].items() if "kind" in e}
    options = {t: _options(map_of(t, kinds), e) for t, e in said["tasks"].items()}
    return Dataset(
        title=said.get("title", name),
        size=said["size"],
        splits={s: len(some) for s, some in splits.items()},
        tasks=tuple(said["tasks"]),
        kinds=kinds,
        classes=classes,
        palettes={t: voc_palette(len(c) + 1)[1:] for t, c in classes.items()},
        options={task: its for task, its in options.items() if its},
    )


def _options(its: Map, entry: Mapping[str, Any]) -> dict[str, Any]:
    """What training and drawing shall know of a task, from its entry."""
    lasting = {*its.settings, "title"} - {*its.reading}
    usual = {name: value for name, value in its.settings.items() if value is not None}
    return usual | {name: value for name, value in entry.items() if name in lasting}


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Samples of a folder."""

    files: Files
    there: frozenset[str]
    ids: Mapping[str, tuple[str, ...]]
    image: str
    tasks: Mapping[str, Mapping[str, Any]]
    maps: Mapping[str, Map]

    def read(self, split: str, index: int) -> Sample:
        """One sample in stored form; tasks without a file are absent."""
        ident = self.ids[split][index]
        sample: Sample = {"image": self.files.read(self.image.format(id=ident))}
        for task, entry in self.tasks.items():
            name = entry["files"].format(id=ident)
            if name in self.there:
                decode = partial(_decode, self.maps[task], name, entry)
                sample[task] = decode_member(self.files, name, decode)
        return sample


def _decode(its: Map, name: str, entry: Mapping[str, Any], data: bytes) -> np.ndarray:
    return its.read(data, name, entry)
