"""The folder beside a dataset file in which the file grows: one process at a time, one job."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError, RunError

LOCK = "lock"


def discard_other(work: Path, info: Info) -> None:
    """Empty the work folder of conversions other than this one; an inflated archive may stay."""
    mark, text = work / "info.json", json.dumps(asdict(info), sort_keys=True)
    if mark.exists() and mark.read_text() == text:
        return
    for path in work.iterdir():
        if not path.name.startswith(("inflated-", LOCK)):
            path.unlink()
    draft = work / "info.draft"
    draft.write_text(text)
    os.replace(draft, mark)


def discard_all(work: Path) -> None:
    """Empty the work folder, all but its lock."""
    for path in work.iterdir():
        if path.name != LOCK:
            path.unlink()


@contextmanager
def claimed(work: Path) -> Iterator[None]:
    """Hold the work folder.

    Raises:
        InputError: another process holds it.
    """
    work.mkdir(parents=True, exist_ok=True)
    with open(work / LOCK, "w") as lock:
        try:
            _lock(lock.fileno())
        except BlockingIOError as error:
            raise InputError(
                f"Another `mtl prepare` is at work in {work}; wait for it to end."
            ) from error
        try:
            yield
        finally:
            if {p.name for p in work.iterdir()} == {LOCK}:  # nothing to go on with
                shutil.rmtree(work)


def _lock(handle: int) -> None:
    try:
        import fcntl
    except ImportError:  # not a Unix system: no lock
        return
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def clear_errors(out: Path) -> Iterator[None]:
    """Turn failures of the disk into one line.

    Raises:
        RunError: no space left, or no permission.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"No space left on the disk of {out.parent}; free some and run the command "
                "again, it goes on where it stopped."
            ) from error
        raise RunError(f"{error.strerror or error}: {error.filename or out}.") from error
