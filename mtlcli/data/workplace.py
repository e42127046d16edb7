"""The dataset file that is to be written, and the folder beside it in which it grows."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from mtlcli import files
from mtlcli.errors import InputError, RunError

HEAD = 1 << 20  # bytes; the record of a dataset file stands in its first few thousand
SIGNATURE = b"\x89HDF\r\n\x1a\n"
RECORD = (b"schema", b"complete", b"vector_normals", b"provenance", b"geometry")
LOCK = "mtl-prepare.lock"  # also the mark by which we know a folder for ours
NOTICE = "Made by `mtl prepare`; it goes when the dataset is complete.\n"
OLD_LOCK = "lock"  # of versions without a mark; always empty
FILES = ("dataset.h5", "*.blobs", "inflated-*",
         "info.json", "info.draft", "dataset.draft", "done", "shard-*")  # fmt: skip


def place_of(out: Path) -> Path:
    """Where the file lies: a link is followed, so that it stays a link.

    Raises:
        InputError: no name of a file, or a link that leads in a circle.
    """
    if out.name in ("", ".."):
        raise InputError(f"--out '{out}' is no name of a file; give one, such as my.h5.")
    if not out.is_symlink():
        return out
    place = Path(os.path.realpath(out))
    if place.is_symlink():
        raise InputError(f"--out {out} is a link that leads in a circle.")
    return place


def require_replaceable(out: Path, *, force: bool) -> None:
    """Check that nothing is lost that `mtl prepare` did not make.

    Raises:
        InputError: there is something else at `out`; only a file can be forced.
    """
    if not os.path.lexists(out):
        return
    if not out.is_file():
        kind = "a folder" if out.is_dir() else "no regular file"
        raise InputError(f"{out} is {kind}: choose another --out.")
    if not (force or is_dataset_file(out)):
        raise InputError(f"{out} exists and is no dataset file of mtl; --force replaces it.")


def is_dataset_file(path: Path) -> bool:
    """Whether a file begins as our dataset files do, be it whole, incomplete or cut short.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    return head.startswith(SIGNATURE) and all(name + b"\0" in head for name in RECORD)


"""What may lie there; the second row is of older versions."""


def discard_drafts(work: Path) -> None:
    """Empty the work folder of what an earlier conversion left; an inflated archive stays."""
    for path in _own_files(work):
        if not path.name.startswith("inflated-") or path.suffix == ".draft":
            path.unlink()


def discard_all(work: Path) -> None:
    """Empty the work folder of what we wrote, all but its lock."""
    for path in _own_files(work):
        path.unlink()


def discard_leftover(work: Path) -> None:
    """Remove a work folder that a killed run left; one of somebody else, or in use, stays."""
    if _is_workplace(work):
        with suppress(InputError), claim(work):
            discard_all(work)


def _own_files(work: Path) -> list[Path]:
    return [p for p in work.iterdir() if any(fnmatch(p.name, known) for known in FILES)]


def _is_workplace(work: Path) -> bool:
    """Whether it bears our mark, or holds what versions without one wrote, and nothing else."""
    if work.is_symlink() or not work.is_dir():
        return False
    if (work / LOCK).is_file():
        return True
    old = work / OLD_LOCK
    there = {p.name for p in work.iterdir()} - {p.name for p in _own_files(work)}
    return there == {OLD_LOCK} and old.is_file() and old.stat().st_size == 0


def _require_ours(work: Path) -> None:
    is_empty = work.is_dir() and not work.is_symlink() and not any(work.iterdir())
    if os.path.lexists(work) and not is_empty and not _is_workplace(work):
        raise InputError(
            f"{work} is no work folder of mtl, so it is not touched: move it away, or choose "
            "another --out."
        )


@contextmanager
def claim(work: Path) -> Iterator[None]:
    """Hold the work folder; it goes when there is nothing left in it to go on with.

    Raises:
        InputError: another process holds it, or it is not ours.
    """
    _require_ours(work)
    work.mkdir(parents=True, exist_ok=True)
    with open(work / LOCK, "a") as lock:
        try:
            files.lock(lock)
        except BlockingIOError as error:
            raise InputError(
                f"Another `mtl prepare` is at work in {work}; wait for it to end."
            ) from error
        (work / OLD_LOCK).unlink(missing_ok=True)
        if lock.tell() == 0:
            lock.write(NOTICE)
            lock.flush()
        try:
            yield
        finally:
            if {p.name for p in work.iterdir()} == {LOCK}:
                (work / LOCK).unlink()
                work.rmdir()


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
                f"No space left on the disk of {out.parent}; free some and run the command again."
            ) from error
        raise RunError(f"{error.strerror or error}: {error.filename or out}.") from error
