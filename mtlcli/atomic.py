"""Files that are whole or not there: written beside their place, then moved into it."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from mtlcli.errors import RunError

BESIDE = ".part"


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
