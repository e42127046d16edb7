"""The scores of a network: what results.json says, and where it lies."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from mtlcli import datasets, lookup
from mtlcli.errors import InputError, RunError
from mtlcli.files import plain, read_json, require_fitting, write_json
from mtlcli.home import weights_dir
from mtlcli.runs import hub_run
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import RESULTS, read_object
from mtlcli.runs.foreign import is_exported
from mtlcli.runs.names import SHIPPED, file_of, is_shipped

PUBLISHED_SPLIT = "val"  # that papers print scores of, complete
Scores = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Results:
    """The scores of a checkpoint on a split, and what they are of; nan for what has no value."""

    checkpoint: str  # name of the file
    hub: str | None = None  # hf:USER/REPO@COMMIT that it is of
    iteration: int | None = None
    config: RunConfig
    split: str | None = None
    fingerprint: str | None = None  # of the split
    images: int | None = None
    options: Mapping[str, Mapping[str, Any]] | None = None  # of the tasks' metrics
    provenance: Mapping[str, str] | None = None  # task -> where its labels come from
    scores: Mapping[str, Scores]  # task -> name of the score -> value
    main: Scores  # task -> its main score
    # Task -> thresholds, recall and precision.
    curves: Mapping[str, Mapping[str, Sequence[float | None]]] | None = None
    # Picture -> task -> main score of that picture alone.
    pictures: Mapping[str, Mapping[str, float | None]] | None = None
    limit: int | None = None  # of pictures, that was asked for
    comparison: Mapping[str, Any] | None = None  # with what was published, and a reference
    constant: Scores | None = None  # main scores of the best constant prediction

    @property
    def pictures_scored(self) -> str:
        """How many of what split, in words."""
        return f"{self.images} images of {self.split}"

    @property
    def summary(self) -> str:
        """What the scores are of, in words."""
        return f"{self.checkpoint} at iteration {self.iteration}, {self.pictures_scored}"

    @property
    def is_complete(self) -> bool:
        """Whether these are the pictures that published scores are of."""
        return (self.split, self.images) == (PUBLISHED_SPLIT, count_published(self.config.dataset))

    @property
    def part(self) -> str:
        """What part of the published pictures the scores are of, in words; "" if of all."""
        whole = count_published(self.config.dataset)
        if whole is None or self.is_complete:
            return ""
        if self.split == PUBLISHED_SPLIT:
            return f"{self.images} of {whole} pictures"
        return f"pictures of {self.split}"

    def count(self, task: str) -> int | None:
        """Of how many pictures the scores of a task are; None if it is not known."""
        if self.pictures is not None:
            return sum(task in scores for scores in self.pictures.values())
        ids = ((self.options or {}).get(task) or {}).get("ids")
        return len(ids) if ids else self.images

    def to_json(self) -> dict[str, Any]:
        """Plain types only; None for what has no value."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in {"constant", "hub"}:
            if values[name] is None:
                del values[name]
        record: dict[str, Any] = plain(values | {"config": self.config.to_json()})
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Results":
        """The inverse of `to_json`; of older records what there is."""
        own = {f.name: record[f.name] for f in fields(cls) if record.get(f.name) is not None}
        scored = {"config", "main", "scores", "constant"}  # read below
        require_fitting(cls, {k: v for k, v in own.items() if k not in scored})
        own["config"] = RunConfig.from_json(own["config"])
        for name in {"main", "constant"} & own.keys():
            own[name] = numbers(own[name])
        for task, curve in own.get("curves", {}).items():
            require_curve(task, curve, own["scores"])
        return cls(**own | {"scores": {n: numbers(s) for n, s in own["scores"].items()}})


def numbers(found: Mapping[str, Any]) -> dict[str, float]:
    """Scores with nan in place of None."""
    return {name: math.nan if value is None else float(value) for name, value in found.items()}


def require_curve(task: str, curve: Mapping[str, Any], scores: Mapping[str, Any]) -> None:
    """Check that a curve can be drawn (raises ValueError, KeyError or TypeError if not)."""
    lengths = {len(curve[name]) for name in ("thresholds", "recall", "precision")} if curve else {1}
    if len(lengths) > 1 or (curve and "threshold" not in scores[task]):
        raise ValueError(f"its curve of '{task}' has no points")


def read_results(path: Path) -> Results:
    """The record that `mtl eval` wrote.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    content = read_object(path, "main", "scores", "checkpoint", "config")
    try:
        return Results.from_json(content)
    except (
        InputError, TypeError, ValueError, KeyError, AttributeError, OverflowError
    ) as error:  # fmt: skip
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"{path} holds no scores of `mtl eval` ({reason}).") from error


def count_published(dataset: str) -> int | None:
    """Pictures that published scores of a dataset are means over; None if it is not known."""
    if dataset not in lookup.names("datasets"):
        return None
    return datasets.find(dataset).splits.get(PUBLISHED_SPLIT)


def place_results(path: Path, limited: int | None) -> Path:
    """Where the record of a checkpoint goes; `limited` is the number of pictures if not all."""
    file = file_of(path)
    name = f"{file.name}.{RESULTS}" if is_exported(file) else RESULTS
    usual = results_folder(path) / name
    known = read_json(usual).get("images")
    if limited is None or not isinstance(known, int) or known <= limited:
        return usual
    return usual.with_name(f"{usual.stem}_first{limited}.json")


def results_folder(path: Path) -> Path:
    """Where the scores of a checkpoint go: beside it, or into weights/ for the one that ships and
    for those of the hub.
    """
    file = file_of(path)
    if hub_run.repository(file.parent):
        return weights_dir() / hub_run.folder_name(file.parent)
    return weights_dir() / SHIPPED if is_shipped(file) else file.parent


def find_results(folder: Path) -> Path:
    """Where the scores of a run are: those found here before those that came with it."""
    if hub_run.repository(folder) and (results_folder(folder) / RESULTS).is_file():
        return results_folder(folder) / RESULTS
    return folder / RESULTS


def write_results(path: Path, limited: int | None, results: "Results") -> None:
    """Write the record of a checkpoint where it goes; its folder is made if it is not there.

    Raises:
        RunError: it cannot be written.
    """
    file = place_results(path, limited)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"Cannot write {file}: {error.strerror or error}.") from error
    write_json(file, results.to_json())


def is_foreign(place: Path) -> bool:
    """Whether a file in the place of scores is whole JSON, but of something else."""
    try:
        content = json.loads(place.read_bytes())
    except (OSError, ValueError, RecursionError):  # none, or scores that were cut short
        return False
    ours = isinstance(content, dict) and content.keys() >= {"main", "checkpoint"}
    return bool(content) and not ours


def require_writable(path: Path) -> None:
    """See that scores of a checkpoint can be written; nothing is left behind.

    Raises:
        InputError: another program's file has their place.
        RunError: they cannot.
    """
    folder, place = results_folder(path), place_results(path, None)
    if is_foreign(place):
        raise InputError(
            f"{place} is not of `mtl eval`, and would be lost: move it, or evaluate a copy."
        )
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        TemporaryFile(dir=there).close()
    except OSError as error:
        beside = folder == file_of(path).parent
        remedy = "evaluate a copy of the run" if beside else "set MTL_HOME to a folder of yours"
        raise RunError(
            f"Cannot write the scores into {folder} ({error.strerror or error}): {remedy}."
        ) from error
