"""Where the scores of a checkpoint go: results.json beside it, but never into the package."""

import json
from pathlib import Path
from tempfile import TemporaryFile

from mtlcli.errors import RunError
from mtlcli.home import weights_dir
from mtlcli.runs import shipped
from mtlcli.runs.checkpoint import file_of, is_shipped


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


def require_writable(path: Path) -> None:
    """See that scores of a checkpoint can be written; their folder is made if it is not there.

    Raises:
        RunError: they cannot.
    """
    folder = results_folder(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        beside = folder == file_of(path).parent
        remedy = "evaluate a copy of the run" if beside else "set MTL_HOME to a folder of yours"
        raise RunError(
            f"Cannot write the scores into {folder} ({error.strerror or error}): {remedy}."
        ) from error
