"""What must be the same when a run is continued: its options and its data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtlcli.data.reader import Reader
from mtlcli.errors import InputError
from mtlcli.runs.config import RunConfig, spell
from mtlcli.runs.folder import RECORD
from mtlcli.runs.record import Record, read_record
from mtlcli.systems import _settings as settings


def read_begun(folder: Path) -> Record:
    """The record of a run that can go on.

    Raises:
        InputError: no run began there, or not one of this version.
    """
    if not (folder / RECORD).is_file():
        raise InputError(
            f"--resume {folder}: no run began there (it has no {RECORD}); "
            f"start one with `mtl train --out {folder}`."
        )
    record = read_record(folder)
    if record.fingerprint is None or record.device is None:
        raise InputError(f"{folder / RECORD} is no record of a run that this version can resume.")
    return record


def refuse_other_options(folder: Path, config: RunConfig, given: Mapping[str, Any]) -> None:
    """A run is continued with its own options.

    Args:
        folder: of the run.
        config: of the run, complete.
        given: fields of `RunConfig` that the user gave now.

    Raises:
        InputError: some of them differ; all are named.
    """
    typed = given.get("settings", {})
    complete = settings.complete(config.system, typed)
    now = flat({**given, "settings": {name: complete[name] for name in typed}})
    own = flat(config.to_json() | {"settings": settings.complete(config.system, config.settings)})
    differing = [
        f"{settings.flag(name)} is {spell(own[name])} there, not {spell(value)}"
        for name, value in now.items()
        if spell(value) != spell(own[name])
    ]
    if differing:
        raise InputError(
            f"--resume {folder}: {'; '.join(differing)}. A run is resumed with its own options: "
            "leave these out."
        )


def flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the settings of the system among them; tasks in the order of their names."""
    plain = {k: v for k, v in options.items() if k not in ("settings", "tasks")}
    if "tasks" in options:
        plain["task"] = sorted(options["tasks"])
    return plain | dict(options["settings"])


def refuse_other_data(folder: Path, fingerprint: str | None, reader: Reader) -> None:
    """A run is continued with the samples it began with.

    Raises:
        InputError: the dataset file holds others.
    """
    if reader.fingerprint() != fingerprint:
        raise InputError(
            f"--resume {folder}: the training samples in {reader.path} have changed since the run "
            "began; put the file of then back, or train anew with another --out."
        )
