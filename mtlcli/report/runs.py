"""Runs as their folders tell them: what was used, what came of it, how it went."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtlcli import tasks
from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import RECORD, read_log
from mtlcli.runs.names import meant
from mtlcli.tasks._task import Task

RESULTS = "results.json"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run folder."""

    name: str  # tells it from the others
    folder: Path
    record: Mapping[str, Any]  # run.json
    config: RunConfig
    results: Mapping[str, Any] | None  # results.json, None before `mtl eval`
    log: Sequence[Mapping[str, Any]]  # log.jsonl
    lacks: tuple[str, ...] = ()  # what of it is not there, and how to get it

    @property
    def dataset(self) -> Info:
        """What it remembers of its dataset."""
        return Info.from_json(self.record["dataset"])

    @property
    def tasks(self) -> dict[str, Task]:
        """What it was scored on, by name."""
        return tasks.named(self.main, self.dataset.kinds, self.dataset.options)

    @property
    def main(self) -> Mapping[str, float | None]:
        """Task -> main score; empty before `mtl eval`."""
        return self.results["main"] if self.results else {}

    @property
    def checkpoint(self) -> Path:
        """The file that was scored, or else the last."""
        name = str(self.results["checkpoint"]) if self.results else ""
        return self.folder / (name if name.endswith(".pt") else "last.pt")


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs of folders, of files inside them, and of folders that hold such folders.

    Raises:
        InputError: one of them is no run; its run.json or results.json is damaged.
    """
    folders: dict[Path, Path] = {}  # resolved -> as given
    for path in paths:
        for folder in run_folders(path):
            folders.setdefault(folder.resolve(), folder)
    runs = [read_run(folder) for folder in folders.values()]
    count = Counter(run.name for run in runs)
    return [replace(r, name=str(r.folder)) if count[r.name] > 1 else r for r in runs]


def run_folders(path: Path) -> list[Path]:
    """The run that a path or the name of the shipped network means, or the runs one or two levels
    below it.
    """
    path = meant(path)
    folder = path.parent if path.is_file() else path
    if (folder / RECORD).is_file():
        return [folder]
    below = sorted(file.parent for level in ("*", "*/*") for file in path.glob(f"{level}/{RECORD}"))
    if not below:
        raise InputError(
            f"{path} is no run: it has no {RECORD}. `mtl train` and `mtl demo` make runs in "
            "weights/RUN."
        )
    return below


def read_run(folder: Path) -> Run:
    """One run, by the name of its folder.

    Raises:
        InputError: its run.json or results.json is damaged.
    """
    record = read_json(folder / RECORD, "config", "dataset")
    try:
        config = RunConfig.from_json(record["config"])
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f"{folder / RECORD} is no record of a run of this version.") from error
    results, lacks = None, []
    if (folder / RESULTS).is_file():
        results = read_json(folder / RESULTS, "main", "scores", "checkpoint")
    else:
        lacks.append(f"{folder} has no {RESULTS}: run `mtl eval {folder}` first.")
    try:
        log = read_log(folder)
    except ValueError:
        log = []
        lacks.append(f"{folder / 'log.jsonl'} cannot be read, so there are no training curves.")
    return Run(
        name=folder.resolve().name,
        folder=folder,
        record=record,
        config=config,
        results=results,
        log=log,
        lacks=tuple(lacks),
    )


def read_json(path: Path, *needed: str) -> dict[str, Any]:
    """A record with certain keys.

    Raises:
        InputError: it is not that.
    """
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: it is damaged or unreadable.") from error
    if not isinstance(record, dict) or any(key not in record for key in needed):
        raise InputError(f"{path} is not what mtl writes: it lacks {' or '.join(needed)}.")
    return record
