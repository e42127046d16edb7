"""The file that `mtl prepare` is to write: where it lies, and whether it may be replaced."""

import os
from pathlib import Path

from mtlcli.errors import InputError

HEAD = 1 << 20  # bytes; the record of a dataset file stands in its first few thousand
SIGNATURE = b"\x89HDF\r\n\x1a\n"
RECORD = (b"schema", b"complete", b"vector_normals", b"provenance", b"geometry")


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
    if not (force or is_ours(out)):
        raise InputError(f"{out} exists and is no dataset file of mtl; --force replaces it.")


def is_ours(path: Path) -> bool:
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
