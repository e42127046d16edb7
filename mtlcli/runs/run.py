"""A run folder as one record: what was used, what came of it, how it went."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile, is_zipfile

from safetensors import SafetensorError, safe_open

from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError
from mtlcli.files import typed
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import (
    CRC32,
    FACTS,
    LAST,
    LOG,
    PACKED,
    RECORD,
    RESULTS,
    crc32_of_tensors,
    newest_file,
    record_file,
    split_log,
)
from mtlcli.runs.foreign import TENSORS, TORCH, describe
from mtlcli.runs.names import CHECKPOINTS, find, is_run, resolve, spoken, title
from mtlcli.runs.record import Record, read_record
from mtlcli.runs.results import Results, Scores, find_results, read_results

if TYPE_CHECKING:
    from mtlcli.tasks._task import Task

TRAITS = ("shape", "geometry", "request")  # of a dataset file, that tell it from another


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run folder."""

    name: str  # tells it from the others
    folder: Path
    record: Record  # run.json
    results: Results | None = None  # results.json, None before `mtl eval`
    log: Sequence[Mapping[str, Any]] = ()  # log.jsonl
    lacks: tuple[str, ...] = ()  # what of it is not there, and how to get it

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """One run, by the name of its folder.

        Raises:
            InputError: its run.json or results.json is damaged; the message names file and key.
        """
        record, results, lacks = read_record(folder), None, []
        scores, named = find_results(folder), spoken(folder)
        if scores.is_file():
            results = read_results(scores)
        else:
            lacks.append(f"{named} has no {RESULTS}: run `mtl eval {typed(named)}` first.")
        try:
            log, is_all = split_log(folder)
        except OSError:
            log, is_all = [], False
        if not is_all:
            since = f"from line {len(log) + 1} on" if log else "at all"
            lacks.append(f"{folder / LOG} cannot be read {since}: its training curves end there.")
        return cls(
            name=title(folder),
            folder=folder,
            record=record,
            results=results,
            log=log,
            lacks=tuple(lacks),
        )

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        its = self.config
        what = f"{its.system} on {its.backbone}, {its.dataset}"
        return f"Run({self.folder}: {what}, iteration {self.iteration} of {its.iterations})"

    @property
    def config(self) -> RunConfig:
        """Its options."""
        return self.record.config

    @property
    def dataset(self) -> Info:
        """That it was trained on."""
        return self.record.dataset

    @property
    def main(self) -> Scores:
        """Task -> main score; empty before `mtl eval`."""
        return self.results.main if self.results else {}

    @property
    def tasks(self) -> "dict[str, Task]":
        """What it was scored on, by name."""
        from mtlcli import tasks

        return tasks.named(self.main, self.dataset.kinds, self.dataset.options)

    @property
    def iteration(self) -> int:
        """The last that was logged, 0 before the first."""
        return int(self.log[-1]["iteration"]) if self.log else 0

    @property
    def is_finished(self) -> bool:
        """Whether its last iteration was logged."""
        return self.iteration >= self.record.final

    @property
    def last(self) -> Path:
        """Its newest checkpoint."""
        return newest_file(self.folder)

    @property
    def checkpoint(self) -> Path:
        """The file that was scored, or else the last; of a packed run the only one."""
        name = Path(self.results.checkpoint).name if self.results else ""
        others = name.endswith(CHECKPOINTS) and self.last.name != PACKED
        return self.folder / name if others else self.last

    def usual_scores(self, split: str) -> Scores | None:
        """Main scores of the last iterate on a whole split, if `mtl eval` has written them without
        options of its own.
        """
        if not self.results:
            return None
        options = {task: self.dataset.options.get(task, {}) for task in self.main}
        own = [getattr(self.results, n) for n in ("checkpoint", "split", "images", "options")]
        usual = [split, self.dataset.expected[split], options]
        return self.main if own[0] in (LAST, PACKED) and own[1:] == usual else None


def same_pictures(one: Run, other: Run) -> bool:
    """Whether nothing that is known of two scored runs tells their pictures apart: not the part of
    the dataset file, nor the file itself.

    The file is told by the fingerprint of the split that was scored, or that of the training split
    where both have the same tasks, or else by what it was made with.
    """
    pairs = list(zip(part_of(one), part_of(other)))
    scored = [run.results.fingerprint if run.results else None for run in (one, other)]
    trained = [run.record.fingerprint for run in (one, other)]
    if all(scored):
        pairs.append((scored[0], scored[1]))
    elif all(trained) and one.config.tasks == other.config.tasks:
        pairs.append((trained[0], trained[1]))
    else:
        pairs += [(getattr(one.dataset, f), getattr(other.dataset, f)) for f in TRAITS]
    unknown = (None, "")
    return all(a == b for a, b in pairs if a not in unknown and b not in unknown)


def part_of(run: Run) -> tuple[Any, ...]:
    """What part of its dataset file a run was scored on: split, number and names."""
    if not run.results:
        return None, None, None
    names = run.results.pictures
    return run.results.split, run.results.images, set(names) if names else None


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs of folders, of files inside them, and of folders that hold such folders.

    Raises:
        InputError: one of them is no run; its run.json or results.json is damaged.
    """
    folders: dict[Path, Path] = {}  # resolved -> as given
    for path in paths:
        for folder in run_folders(path):
            folders.setdefault(folder.resolve(), folder)
    runs = [Run.read(folder) for folder in folders.values()]
    count = Counter(run.name for run in runs)
    return [replace(r, name=str(r.folder)) if count[r.name] > 1 else r for r in runs]


def run_folders(path: Path) -> list[Path]:
    """The run that a path or a name means, or the runs one or two levels below it."""
    path = resolve(path)
    folder = path.parent if path.is_file() else path
    if path.is_file() and not is_run(folder):
        raise InputError(f"{path} is no file of a run.")
    below = [f for f in find(folder, depth=2) if f != folder and record_file(f).is_file()]
    return below if below and not record_file(folder).is_file() else [folder]


def is_whole(file: Path) -> bool:
    """Whether a checkpoint is not cut short."""
    if not file.is_file():
        return False
    if file.suffix != Path(PACKED).suffix:
        return is_zipfile(file)  # its directory stands at its end
    try:
        with safe_open(file, framework="numpy"):  # compares the size with what its head says
            return True
    except (OSError, SafetensorError):
        return False


def is_sound(file: Path) -> bool:
    """Whether every byte of a checkpoint is as it was written: its checksums are compared, where it
    has any.
    """
    if not file.is_file():
        return False
    try:
        if file.suffix == Path(PACKED).suffix:
            with safe_open(file, framework="numpy") as opened, file.open("rb") as raw:
                facts = json.loads((opened.metadata() or {}).get(FACTS, "{}"))
                return CRC32 not in facts or facts[CRC32] == crc32_of_tensors(raw)
        with ZipFile(file) as members:
            return members.testzip() is None
    except PermissionError:
        raise
    except Exception:  # what damaged bytes make of unpacking can be anything
        return False


def describe_damage(file: Path) -> str:
    """What to say of a checkpoint that cannot be read, and how to have its run again."""
    run, what = file.parent, describe(file)
    if what and what not in (TORCH, TENSORS):  # which it would be, were it whole
        return f"{file} is {what}. It is no run: name another (`mtl doctor` lists them)."
    if file.name == LAST and (run / RECORD).is_file():
        remedy = f"remove it, and `mtl train --resume {typed(run)}` begins it again"
        return f"{file} is cut short or damaged (see `mtl doctor`): {remedy}."
    remedy = "train again, or name another run (`mtl doctor` lists them)"
    return f"{file} is cut short or damaged, or not of mtl: {remedy}."
