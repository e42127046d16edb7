"""Where the scores of a checkpoint go: results.json beside it, but never into the package."""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from mtlcli import shipped
from mtlcli.atomic import write_json
from mtlcli.checkpoint import file_of, is_shipped
from mtlcli.config import weights_dir
from mtlcli.errors import RunError


def record_file(path: Path, limited: int | None) -> Path:
    """Where the record of a checkpoint goes; `limited` is the number of pictures if not all."""
    usual = results_folder(path) / "results.json"
    if limited is None or not usual.exists():
        return usual
    try:
        known = json.loads(usual.read_text())["images"]
    except (OSError, ValueError, KeyError, TypeError):
        return usual
    return usual.with_name(f"results_first{limited}.json") if known > limited else usual


def results_folder(path: Path) -> Path:
    """Where the scores of a checkpoint go: beside it, or into weights/ for the one that ships."""
    file = file_of(path)
    return weights_dir() / shipped.NAME if is_shipped(file) else file.parent


def write_results(path: Path, limited: int | None, record: Mapping[str, Any]) -> None:
    """Write the record of a checkpoint where it goes; its folder is made if it is not there.

    Raises:
        RunError: it cannot be written.
    """
    file = record_file(path, limited)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"Cannot write {file}: {error.strerror or error}.") from error
    write_json(file, record)


def require_writable(path: Path) -> None:
    """See that scores of a checkpoint can be written; nothing is left behind.

    Raises:
        RunError: they cannot.
    """
    folder = results_folder(path)
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        TemporaryFile(dir=there).close()
    except OSError as error:
        beside = folder == file_of(path).parent
        remedy = "evaluate a copy of the run" if beside else "set MTL_HOME to a folder of yours"
        raise RunError(
            f"Cannot write the scores into {folder} ({error.strerror or error}): {remedy}."
        ) from error
