"""Archives of every kind the field hands around: recognised by content, identified, opened.

Nothing is unpacked into files; a .tar.gz, which cannot be entered at will, is inflated into one
.tar in the work folder.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mtlcli.data.members import BLOCK, Folder, Merged, Tar, Zip
from mtlcli.datasets._dataset import Files
from mtlcli.errors import InputError
from mtlcli.files import checksums, growing

Progress = Callable[[int], object]
ENDINGS = (".tar", ".tar.gz", ".tgz", ".zip")
MOST_INFLATED = 200  # times its size; deflate can reach 1032, pictures reach 20
SINGLES = (b"\x89HDF", b"MATLAB")  # files that are data, not containers


def kind_of(path: Path) -> str:
    """What a path is, by its first bytes: folder, gzip, zip, tar, data, empty or unknown."""
    if path.is_dir():
        return "folder"
    with open(path, "rb") as file:
        head = file.read(1024)
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    if head[:4] in (b"PK\3\4", b"PK\5\6"):
        return "zip"
    if head[257:262] == b"ustar":
        return "tar"
    if head.startswith(SINGLES) or head[512:516] == b"\x89HDF":
        return "data"
    return "empty" if not head else "page" if b"<html" in head.lower() else "unknown"


def require_there(path: Path) -> None:
    """Refuse what is neither file nor folder, such as a pipe, which would be waited for.

    Raises:
        InputError: names it.
    """
    if path.is_file() or path.is_dir():
        return
    what = "is no regular file" if path.exists() else "is not there; check the path"
    raise InputError(f"--archive {path} {what}.")


def identify(path: Path, progress: Progress = lambda n: None) -> dict[str, Any]:
    """Name, bytes and sha256 of an archive; of a folder the hash is that of its listing."""
    if path.is_dir():
        listing = [(n, (path / n).stat().st_size) for n in Folder(path).names()]
        text = "".join(f"{size} {name}\n" for name, size in listing)
        total = sum(size for _, size in listing)
        digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
        return {"name": path.resolve().name, "bytes": total, "listing_sha256": digest}
    found = checksums(path, progress)
    return {"name": path.name, "bytes": found["size"], "sha256": found["sha256"]}


def open_archive(
    path: Path, work: Path, progress: Progress = lambda n: None, is_plain: bool = False
) -> Files:
    """The members of whatever `path` is; of a folder those of the archives in it too.

    Args:
        path: of a file or folder.
        work: folder for an inflated .tar.gz.
        progress: is told of the bytes read.
        is_plain: whether a folder has files only, of which none is opened.

    Raises:
        InputError: there is nothing at `path`, or it is damaged or of an unknown kind.
    """
    require_there(path)
    kind = kind_of(path)
    if kind == "folder":
        if is_plain:
            return Folder(path)
        packed = sorted(p for p in path.iterdir() if p.is_file() and p.name.endswith(ENDINGS))
        parts = [open_archive(p, work, progress) for p in packed]
        return Merged((Folder(path), *parts), str(path)) if parts else Folder(path)
    if kind == "gzip":
        return Tar.scan(inflate(path, work, progress), str(path), work)
    if kind == "zip":
        return Zip(path, str(path), work)
    if kind == "tar":
        return Tar.scan(path, str(path), work)
    if kind == "data":
        beside = tuple(p.name for p in path.parent.glob("splits.mat") if p.name != path.name)
        return Folder(path.parent, (path.name, *beside), str(path))
    what = {"empty": "is empty", "page": "is a web page, not an archive"}
    known = "a folder, .tar, .tar.gz, .zip or .mat"
    raise InputError(f"{path} {what.get(kind, 'is of an unknown kind')}; expected {known}.")


def merge(files: Sequence[Files]) -> Files:
    """One view of several archives."""
    if len(files) == 1:
        return files[0]
    return Merged(tuple(files), " + ".join(f.label for f in files))


def inflate(path: Path, work: Path, progress: Progress) -> Path:
    """The .tar inside a .tar.gz, written to the work folder once.

    Raises:
        InputError: the archive is cut short or corrupt.
    """
    stat = path.stat()
    mark = json.dumps([str(path.resolve()), stat.st_size, stat.st_mtime_ns])
    out = work / f"inflated-{hashlib.sha256(mark.encode()).hexdigest()[:12]}.tar"
    if out.exists():
        return out
    try:
        # It holds at least as much as it packs.
        with open(path, "rb") as raw, gzip.open(raw) as packed, growing(out, stat.st_size) as write:
            position = inflated = 0
            while block := packed.read(BLOCK):
                if inflated == 0 and block[257:262] != b"ustar":
                    raise InputError(f"{path} is damaged: it has no .tar inside.")
                write(block)
                progress(raw.tell() - position)
                position, inflated = raw.tell(), inflated + len(block)
                if inflated > MOST_INFLATED * max(position, BLOCK):
                    raise InputError(
                        f"{path} inflates to more than {MOST_INFLATED} times its size; that is no "
                        "archive of pictures."
                    )
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        state = "is cut short" if isinstance(error, EOFError) else "is corrupt"
        raise InputError(f"{path} {state} ({error}); get it again.") from error
    return out
