"""The run folder: made once, described by run.json, its log cut back when a run is resumed."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError
from mtlcli.files import BESIDE, write_json
from mtlcli.home import weights_dir
from mtlcli.runs.config import RunConfig

RECORD, LOG = "run.json", "log.jsonl"


def default_folder(config: RunConfig) -> Path:
    """weights/DATASET_BACKBONE_SYSTEM."""
    return weights_dir() / f"{config.dataset}_{config.backbone}_{config.system}"


def begin_run(out: Path | None, config: RunConfig, record: Mapping[str, Any]) -> Path:
    """Create a run folder with its run.json; by default weights/DATASET_BACKBONE_SYSTEM.

    Raises:
        InputError: the chosen folder is taken, or cannot be made.
        RunError: run.json cannot be written.
    """
    folder = make_run_folder(out or default_folder(config), fixed=out is not None)
    write_record(folder, record)
    return folder


def make_run_folder(path: Path, fixed: bool) -> Path:
    """Create an empty folder; one that exists is never written into.

    A name the user did not choose is numbered until it is free.

    Raises:
        InputError: the chosen folder is taken, or cannot be made.
    """
    if fixed and path.exists() and not is_unused(path):
        raise InputError(
            f"{path} exists and is not an empty folder; choose another --out, or continue "
            f"the run in it with --resume {path}."
        )
    number, free = 2, path
    while not fixed and free.exists():
        free, number = path.with_name(f"{path.name}_{number}"), number + 1
    try:
        free.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot create {free}: {error.strerror}.") from error
    return free


def is_unused(path: Path) -> bool:
    """An empty folder, or one that a run was killed in before it had written anything whole."""
    return path.is_dir() and all(child.suffix == BESIDE for child in path.iterdir())


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write run.json, whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    write_json(folder / RECORD, record)


def read_record(folder: Path) -> tuple[dict[str, Any], RunConfig]:
    """The content of run.json, and the run's options from it.

    Raises:
        InputError: there is none, or it is not one.
    """
    path = folder / RECORD
    if not path.is_file():
        raise InputError(
            f"--resume {folder}: no run began there (it has no {RECORD}); "
            f"start one with `mtl train --out {folder}`."
        )
    try:
        record = json.loads(path.read_text())
        config = RunConfig.from_json(record["config"])
        Info.from_json(record["dataset"])
        assert all(key in record for key in ("fingerprint", "device"))
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise InputError(f"{path} is no record of a run that this version can resume.") from error
    return record, config


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of log.jsonl; none if there is no such file."""
    path = folder / LOG
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def cut_log(folder: Path, iteration: int) -> None:
    """Drop the lines after an iteration, and a last line that was not finished.

    So the log of a run that was resumed is that of one never interrupted.
    """
    path = folder / LOG
    if not path.exists():
        return
    kept = 0
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n") or json.loads(line)["iteration"] > iteration:
            break
        kept += len(line)
    os.truncate(path, kept)
