"""The files of a run: the folder is made once, the log is cut back when a run is resumed.

run.json holds settings and provenance (`mtlcli.runs.record`), log.jsonl one line per logged
iteration, last.pt the newest checkpoint, results.json what `mtl eval` found. A packed run has
model.safetensors and config.json in place of last.pt and run.json, and README.md, its card.
"""

import json
import math
import os
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import BufferedWriter
from multiprocessing.util import register_after_fork
from pathlib import Path
from typing import Any, BinaryIO

from mtlcli.errors import InputError
from mtlcli.files import BESIDE, fits, lock, read_json
from mtlcli.home import weights_dir
from mtlcli.runs.config import RunConfig

LINE = {  # of the log: key -> what its value must be, if it is there
    "iteration": int,
    "loss": Mapping[str, float],
    "total": float,
    "lr": float,
    "offsets": Mapping[str, Mapping[str, Sequence[float | None]]],
    "holdout": Mapping[str, float | None],
    "gain": float | None,
    "speed": Mapping[str, float | None],
}
RECORD, LOG, LAST, RESULTS = "run.json", "log.jsonl", "last.pt", "results.json"
PACKED, PACKED_RECORD, CARD = "model.safetensors", "config.json", "README.md"
FACTS = "mtl"  # key of safetensors' metadata, under which stands as JSON what is no tensor
CRC32 = "crc32"  # of these: the checksum of the tensors
BLOCK = 1 << 20  # bytes read at once


def record_file(folder: Path) -> Path:
    """Where the record of a run is: run.json, or config.json of one that is packed."""
    own, packed = folder / RECORD, folder / PACKED_RECORD
    return packed if packed.is_file() and not own.exists() else own


def newest_file(folder: Path) -> Path:
    """Where the newest checkpoint of a run is: last.pt, or model.safetensors of one packed."""
    own, packed = folder / LAST, folder / PACKED
    return packed if packed.is_file() and not own.exists() else own


def is_packed(folder: Path) -> bool:
    """Whether `mtl pack` made this folder; other programs have files of these names, too."""
    there = (folder / PACKED).is_file() and not (folder / LAST).exists()
    return there and read_json(folder / PACKED_RECORD).keys() >= {"config", "dataset"}


def crc32_of_tensors(file: BinaryIO) -> int:
    """The checksum of what follows the head of a safetensors file."""
    file.seek(8 + int.from_bytes(file.read(8), "little"))
    checksum = 0
    while block := file.read(BLOCK):
        checksum = zlib.crc32(block, checksum)
    return checksum


def default_folder(config: RunConfig) -> Path:
    """weights/DATASET_BACKBONE_SYSTEM; the colon of timm's names becomes a dash."""
    backbone = config.backbone.replace(":", "-")
    return weights_dir() / f"{config.dataset}_{backbone}_{config.system}"


def make_run_folder(path: Path, fixed: bool) -> Path:
    """Create an empty folder; one that exists is never written into, unless the user chose it and
    it `is_unused`.

    A name the user did not choose is numbered until it is free.

    Raises:
        InputError: the chosen folder is taken, or cannot be made.
    """
    taken = (
        f"{path} exists and is not an empty folder; choose another --out, or continue the run in "
        f"it with --resume {path}."
    )
    if fixed and is_unused(path):
        return path
    number, free = 2, path
    while True:
        try:
            free.mkdir(parents=True)
            return free
        except OSError as error:
            is_taken = isinstance(error, FileExistsError) and os.path.lexists(free)
            if not is_taken:
                raise InputError(f"Cannot create {free}: {error.strerror}.") from error
            if fixed:
                raise InputError(taken) from error
        free, number = path.with_name(f"{path.name}_{number}"), number + 1


def is_unused(path: Path) -> bool:
    """An empty folder, or one that a run was killed in before it had written anything whole."""

    def is_nothing(child: Path) -> bool:
        return child.suffix == BESIDE or (child.name == LOG and child.stat().st_size == 0)

    return path.is_dir() and all(map(is_nothing, path.iterdir()))


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Within it nobody else trains in the folder of a run: its log is locked. What a process that
    was killed was writing of a checkpoint goes.

    Raises:
        InputError: another process trains there, or the log cannot be written.
    """
    path = folder / LOG
    _require_regular(path)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "ab"))
            lock(file)
        except BlockingIOError as error:
            raise InputError(
                f"Another process trains in {folder}: wait for it to end, or stop it first."
            ) from error
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror or error}.") from error
        register_after_fork(file, BufferedWriter.close)  # else a loader's process would hold it on
        for unfinished in folder.glob(f"*.pt.*{BESIDE[1:]}"):
            unfinished.unlink(missing_ok=True)
        yield


def read_object(path: Path, *needed: str) -> dict[str, Any]:
    """A JSON object with certain keys.

    Raises:
        InputError: it is not that; the message names the file and the key.
    """
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: it is damaged.") from error
    record: dict[str, Any] = found if isinstance(found, dict) else {}
    missing = [key for key in needed if key not in record]
    if missing:
        raise InputError(f"{path} is not what mtl writes: it lacks '{missing[0]}'.")
    return record


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of log.jsonl up to the first that cannot be read; none if there is no such file."""
    return split_log(folder)[0]


def split_log(folder: Path) -> tuple[list[dict[str, Any]], bool]:
    """The readable lines at the head of log.jsonl, and whether they are all; a last line that was
    not finished is none.

    Raises:
        OSError: it cannot be opened.
    """
    path = folder / LOG
    whole = path.read_bytes() if path.is_file() else b""
    found: list[dict[str, Any]] = []
    for line in whole.split(b"\n")[:-1]:
        try:
            record = json.loads(line, parse_constant=lambda name: None)  # older logs have NaN
        except (ValueError, RecursionError):
            record = None
        if not _is_line(record):
            return found, False
        found.append(_with_nan(record))
    return found, True


def _is_line(record: Any) -> bool:
    return (
        isinstance(record, dict)
        and "iteration" in record
        and fits(record["iteration"], float)  # of a size that can be drawn
        and all(fits(record[key], kind) for key, kind in LINE.items() if key in record)
    )


def _with_nan(value: Any) -> Any:
    """What has no value, null in JSON, as nan."""
    if isinstance(value, dict):
        return {key: _with_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_nan(each) for each in value]
    return math.nan if value is None else value


def _require_regular(path: Path) -> None:
    if os.path.lexists(path) and not path.is_file():
        raise InputError(f"{path} is no regular file: remove it, and resume again.")


def cut_log(folder: Path, iteration: int) -> None:
    """Drop the lines after an iteration, a last line that was not finished, and all from the first
    that cannot be read, of which a line on stderr tells.

    So the log of a run that was resumed is that of one never interrupted.

    Raises:
        InputError: it is no file that can be written on.
    """
    path = folder / LOG
    _require_regular(path)
    if not path.exists():
        return
    lines, is_all = split_log(folder)
    kept = sum(line["iteration"] <= iteration for line in lines)
    if not is_all:
        print(
            f"mtl: {path} cannot be read from line {len(lines) + 1} on: the rest is left out.",
            file=sys.stderr,
        )
    os.truncate(path, sum(len(line) for line in path.read_bytes().splitlines(True)[:kept]))
