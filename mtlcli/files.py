"""Files that are whole or not there, JSON, checksums, and the space they take on a disk."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from mtlcli.errors import RunError

BESIDE = ".part"
BLOCK = 1 << 20  # bytes read at once


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write into; when the block ends well it takes the place of `path`.

    Whatever happens, `path` is either what it was or complete, also after a loss of power.
    """
    beside = path.with_name(path.name + BESIDE)
    try:
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, record: Any) -> None:
    """Write strict JSON as UTF-8 (see `plain`), whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    text = json.dumps(plain(record), indent=2, allow_nan=False) + "\n"
    try:
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise RunError(f"Cannot write {path}: {error.strerror or error}.") from error


def plain(value: Any) -> Any:
    """What strict JSON can hold: mappings as dicts, sequences as lists, nan and inf as null."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def require_space(folder: Path, needed: int) -> None:
    """Check that `needed` bytes are free on the disk of `folder`.

    Raises:
        RunError: they are not.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RunError(
            f"{folder} has {gigabytes(free)} free, {gigabytes(needed)} are needed: free some "
            "space, or use another disk (--out, --download-dir or MTL_HOME)."
        )


def gigabytes(count: float) -> str:
    """A number of bytes for people."""
    return f"{count / 1e9:.3g} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def checksums(
    path: Path, progress: Callable[[int], object] = lambda read: None, *, with_md5: bool = False
) -> dict[str, Any]:
    """Size, sha256 and, if asked for, md5 of a file; `progress` is told of the bytes read."""
    digests = {"sha256": hashlib.sha256()}
    if with_md5:
        digests["md5"] = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            for digest in digests.values():
                digest.update(block)
            progress(len(block))
    return {"size": size_of(path)} | {name: d.hexdigest() for name, d in digests.items()}


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none or it is damaged."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
