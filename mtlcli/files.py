"""Files that are whole or not there, JSON, checksums and space on a disk.

What mtl writes where a user says carries a mark: it may be replaced, a file without stays.
"""

import hashlib
import json
import math
import mmap
import os
import reprlib
import shlex
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePath
from types import UnionType
from typing import IO, Any, BinaryIO, Literal, Union, get_args, get_origin, get_type_hints
from uuid import uuid4
from zipfile import ZipFile

from mtlcli.errors import InputError, RunError

MARK = "written by mtlcli"
BESIDE = ".part"
RESERVE = 1 << 24  # bytes of a disk that are left free
LONGEST = 200  # bytes of the name of a file; endings are added to it
BLOCK = 1 << 20  # bytes read at once
PNG = b"\x89PNG\r\n\x1a\n"  # how such a file begins


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write into; when the block ends well it takes the place of `path`.

    Whatever happens, `path` is either what it was or complete, also after a loss of power.
    """
    beside = path.with_name(f"{path.name}.{uuid4().hex[:8]}{BESIDE}")  # nobody else's
    try:
        with open(beside, "xb") as file:
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


def typed(place: object) -> str:
    """A path as it is typed in a shell, for a command that users copy."""
    return shlex.quote(str(place))


def has_value(score: float | None) -> bool:
    """Whether a score is a number: neither None nor nan nor infinite."""
    return score is not None and math.isfinite(score)


def lock(file: IO) -> None:
    """Hold a file until it is closed, against everybody else who locks it; without a lock where the
    system knows none.

    Raises:
        BlockingIOError: somebody holds it.
    """
    try:
        import fcntl
    except ImportError:  # not a Unix system
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        pass


class NoSpace(RunError):
    """More bytes are needed than a disk has free."""


def require_space(folder: Path, needed: int) -> None:
    """Check that `needed` bytes are free on the disk of `folder`.

    Raises:
        NoSpace: they are not.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise NoSpace(
            f"{folder} has {gigabytes(free)} free, {gigabytes(needed)} are needed: free some "
            "space, or use another disk (--out, --download-dir or MTL_HOME)."
        )


MAC = "__MACOSX"  # its folder in zip files
LITTER = (MAC, "Thumbs.db", "desktop.ini")


def is_litter(name: str | PurePath) -> bool:
    """Whether a path belongs to what systems leave in folders and archives, or is hidden."""
    parts = PurePath(name).parts
    return any(part in LITTER or part.startswith(".") for part in parts if part not in (".", ".."))


def stays_inside(name: str) -> bool:
    """Whether a name, which may have folders in it, leads to one place inside a folder, on every
    system: "kitchen/0001" does; "/etc/x", "../x", "a//b", "C:x" and names of control characters or
    of more bytes than a disk takes do not.
    """
    parts = name.split("/")
    return (
        name.isprintable()
        and "\\" not in name
        and name[1:2] != ":"  # a drive
        and all(part not in ("", ".", "..") for part in parts)
        and max(len(part.encode(errors="replace")) for part in parts) <= LONGEST
        and len(name) <= 4 * LONGEST
    )


@contextmanager
def growing(path: Path, needed: int = 0) -> Iterator[Callable[[bytes], object]]:
    """Write a file by the function that this gives; when the block ends well it takes the place of
    `path`, and whatever else happens, nothing of it is left. The disk is never filled to its end.

    Args:
        path: of the file.
        needed: bytes that it will have, as far as known.

    Raises:
        RunError: the disk has too little room for what is left to write.
    """
    draft = path.with_suffix(".draft")
    written = asked = 0

    def write(block: bytes) -> None:
        nonlocal written, asked
        if written >= asked:
            require_space(path.parent, max(needed - written, 0) + RESERVE)
            asked = written + RESERVE // 2
        file.write(block)
        written += len(block)

    try:
        with open(draft, "wb") as file:
            yield write
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def read_lines(text: str) -> list[str]:
    """What stands on each line of a list, without the white space around it; empty lines are
    none.
    """
    return [line for line in map(str.strip, text.splitlines()) if line]


def chunks_of_png(data: bytes) -> set[bytes]:
    """The kinds of chunks of a PNG file, of which decoders take half for the whole.

    Raises:
        ValueError: one that pixels depend on has not its checksum, or the last is not there.
    """
    position, kinds = len(PNG), set[bytes]()
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        (checksum,) = struct.unpack_from(">I", data, end)
        if kind[:1].isupper() and zlib.crc32(memoryview(data)[position + 4 : end]) != checksum:
            raise ValueError("has a damaged chunk")
        kinds.add(kind)
        if kind == b"IEND":
            return kinds
        position = end + 4
    raise ValueError("is cut short")


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
        value = json.loads(path.read_text()) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def fits(value: Any, kind: Any) -> bool:
    """Whether a value out of JSON is of the kind that a type says; a list may stand for a tuple, an
    int for a float, and every number is finite.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in inner)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if origin is tuple and Ellipsis not in inner:
        return _is_list(value) and len(value) == len(inner) and all(map(fits, value, inner))
    if origin in (tuple, list, Sequence):
        return _is_list(value) and all(fits(each, inner[0]) for each in value)
    if origin is Mapping:
        pairs = value.items() if isinstance(value, Mapping) else [(None, None)]
        return all(fits(k, inner[0]) and fits(v, inner[1]) for k, v in pairs)
    if kind is float and type(value) in (int, float):
        return abs(value) <= sys.float_info.max
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def require_fitting(kind: type, record: Mapping[str, Any]) -> None:
    """Check what a JSON object says of the fields of a dataclass.

    Raises:
        ValueError: names the first that is of another type, and what it is.
    """
    for name, hint in _hints(kind).items():
        if name in record and not fits(record[name], hint):
            raise ValueError(f"its '{name}' is {reprlib.repr(record[name])}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def is_ours(path: Path, mark: str = MARK) -> bool:
    """Whether a regular file holds the mark; one that cannot be read does not."""
    try:
        if not path.is_file() or not path.stat().st_size:
            return False
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
            return held.find(mark.encode()) >= 0
    except (OSError, ValueError):
        return False


def may_write(path: Path, force: bool = False, mark: str = MARK) -> bool:
    """Whether a file may be written: nothing is there, or mtl's own, or the user insists."""
    return force or not path.exists() or is_ours(path, mark)


def require_ours(option: str, path: Path, force: bool = False, mark: str = MARK) -> None:
    """Refuse, before the work begins, to replace what mtl did not write.

    Raises:
        InputError: names the file.
    """
    if path.is_file() and not may_write(path, force, mark):
        raise InputError(
            f"{option} {path} exists, and mtl did not write it: name another file, or replace it "
            "with --force."
        )


def save_picture(picture: Any, path: Path) -> None:
    """Write a Pillow picture, marked, as the PNG or JPEG that its name says."""
    if path.suffix.lower() == ".png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text("Software", MARK)
        picture.save(path, pnginfo=info)
    else:
        picture.save(path, comment=MARK)


def mark_zip(path: Path) -> None:
    """Mark an archive, such as an .npz, in its comment."""
    with ZipFile(path, "a") as archive:
        archive.comment = MARK.encode()


def mark_video(path: Path) -> None:
    """Mark an .mp4, at its end, in a box that players pass over."""
    content = MARK.encode()
    with path.open("ab") as file:
        file.write((8 + len(content)).to_bytes(4, "big") + b"free" + content)
