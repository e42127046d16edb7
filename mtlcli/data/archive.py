"""Archives and folders, read member by member: folder, tar, tar.gz, zip, .mat, or several of them.

Nothing is unpacked into files; a .tar.gz, which cannot be entered at will, is inflated into one
.tar in the work folder. Members that point outside the archive are refused.
"""

import gzip
import hashlib
import json
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mtlcli.data.disk import require_space
from mtlcli.datasets._dataset import Files
from mtlcli.errors import InputError

BLOCK = 1 << 20
Progress = Callable[[int], object]
ENDINGS = (".tar", ".tar.gz", ".tgz", ".zip")
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


def safe_name(name: str, archive: str) -> str:
    """A member's name without a leading "./".

    Raises:
        InputError: it is absolute or climbs out of the archive.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise InputError(f"{archive}: member '{name}' points outside the archive; refusing it.")
    return str(path)


@dataclass
class Folder:
    """Files under a folder, or only those named."""

    root: Path
    only: tuple[str, ...] | None = None
    label: str = ""
    _names: tuple[str, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.label = self.label or str(self.root)

    def names(self) -> tuple[str, ...]:
        """Every file under the folder, sorted."""
        if self._names is None:
            found = self.only if self.only is not None else self._walk()
            self._names = tuple(sorted(found))
        return self._names

    def _walk(self) -> Iterable[str]:
        for folder, _, files in os.walk(self.root, followlinks=True):
            inside = Path(folder).relative_to(self.root)
            yield from ((inside / f).as_posix() for f in files)

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError as error:
            raise missing(self.label, name) from error

    def located(self, name: str) -> Path | None:
        """Where the file lies."""
        return self.root / name


@dataclass
class Tar:
    """The regular members of an uncompressed tar file, each read at its place."""

    path: Path
    label: str
    index: dict[str, tuple[int, int]]  # name -> position, size

    @classmethod
    def scan(cls, path: Path, label: str) -> "Tar":
        """Note where each member lies."""
        try:
            with tarfile.open(path, "r:") as tar:
                index = {
                    safe_name(m.name, label): (m.offset_data, m.size)
                    for m in tar
                    if _regular(m, label)
                }
                end = max((m.offset_data + m.size for m in tar.getmembers()), default=0)
        except (tarfile.TarError, EOFError) as error:
            state = "is cut short" if "end of" in str(error) else "is damaged"
            raise InputError(f"{label} {state} ({error}); get it again.") from error
        if end > path.stat().st_size:
            raise InputError(f"{label} is cut short inside its last member; get it again.")
        return cls(path, label, index)

    def names(self) -> tuple[str, ...]:
        """Every regular member, sorted."""
        return tuple(sorted(self.index))

    def read(self, name: str) -> bytes:
        """The bytes of one member."""
        if name not in self.index:
            raise missing(self.label, name)
        position, size = self.index[name]
        with open(self.path, "rb", buffering=0) as file:
            file.seek(position)
            data = file.read(size)
        if len(data) != size:
            raise InputError(f"{self.label}: {name} is cut short; get the archive again.")
        return data

    def located(self, name: str) -> Path | None:
        """Members are no files of their own."""
        return None


def _regular(member: tarfile.TarInfo, label: str) -> bool:
    if member.issym() or member.islnk():
        base = PurePosixPath(member.name).parent if member.issym() else PurePosixPath()
        target = os.path.normpath(base / member.linkname)
        if target.startswith(("/", "..")):
            raise InputError(
                f"{label}: member '{member.name}' links outside the archive; refusing it."
            )
        return False
    safe_name(member.name, label)
    return member.isreg()


@dataclass
class Zip:
    """The members of a zip file; every process opens it for itself."""

    path: Path
    label: str
    _file: zipfile.ZipFile | None = field(default=None, repr=False)
    _pid: int = -1

    def _zip(self) -> zipfile.ZipFile:
        if self._file is None or self._pid != os.getpid():
            try:
                self._file, self._pid = zipfile.ZipFile(self.path), os.getpid()
            except (zipfile.BadZipFile, OSError) as error:
                raise InputError(f"{self.label} is damaged ({error}); get it again.") from error
        return self._file

    def names(self) -> tuple[str, ...]:
        """Every member that is a file, sorted."""
        found = (i.filename for i in self._zip().infolist() if not i.is_dir())
        return tuple(sorted(safe_name(n, self.label) for n in found))

    def read(self, name: str) -> bytes:
        """The bytes of one member, its checksum verified."""
        try:
            return self._zip().read(name)
        except KeyError as error:
            raise missing(self.label, name) from error
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise InputError(
                f"{self.label}: {name} is damaged ({error}); get the archive again."
            ) from error

    def located(self, name: str) -> Path | None:
        """Members are no files of their own."""
        return None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_pid": -1}


@dataclass
class Merged:
    """Several archives as one; where two have the same member, the first one's counts."""

    parts: tuple[Files, ...]
    label: str

    def __post_init__(self) -> None:
        self._owner = {n: i for i, p in reversed(list(enumerate(self.parts))) for n in p.names()}

    def names(self) -> tuple[str, ...]:
        """Every member of any part, sorted."""
        return tuple(sorted(self._owner))

    def read(self, name: str) -> bytes:
        """The bytes of one member."""
        return self._part(name).read(name)

    def located(self, name: str) -> Path | None:
        """Where the member lies, if it is a file of its own."""
        return self._part(name).located(name)

    def _part(self, name: str) -> Files:
        if name not in self._owner:
            raise missing(self.label, name)
        return self.parts[self._owner[name]]


def missing(archive: str, name: str) -> InputError:
    """The error for a member that is not there."""
    return InputError(f"{archive} lacks {name}: the archive is incomplete, get it again.")


def identify(path: Path, progress: Progress = lambda n: None) -> dict[str, Any]:
    """Name, bytes and sha256 of an archive; of a folder the hash is that of its listing."""
    if path.is_dir():
        listing = [(n, (path / n).stat().st_size) for n in Folder(path).names()]
        text = "".join(f"{size} {name}\n" for name, size in listing)
        total = sum(size for _, size in listing)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return {"name": path.resolve().name, "bytes": total, "listing_sha256": digest}
    digest_of = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest_of.update(block)
            progress(len(block))
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest_of.hexdigest()}


def open_archive(path: Path, work: Path, progress: Progress = lambda n: None) -> Files:
    """The members of whatever `path` is; `work` is a folder for an inflated .tar.gz.

    Raises:
        InputError: there is nothing at `path`, or it is damaged or of an unknown kind.
    """
    if not path.exists():
        raise InputError(f"There is no archive at {path}; check the path given to --archive.")
    kind = kind_of(path)
    if kind == "folder":
        packed = sorted(p for p in path.iterdir() if p.is_file() and p.name.endswith(ENDINGS))
        parts = [open_archive(p, work, progress) for p in packed]
        return Merged((Folder(path), *parts), str(path)) if parts else Folder(path)
    if kind == "gzip":
        return Tar.scan(inflate(path, work, progress), str(path))
    if kind == "zip":
        return Zip(path, str(path))
    if kind == "tar":
        return Tar.scan(path, str(path))
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
    require_space(work, stat.st_size)  # it holds at least as much as it packs
    draft = out.with_suffix(".draft")
    try:
        with open(path, "rb") as raw, gzip.open(raw) as packed, open(draft, "wb") as plain:
            position = 0
            while block := packed.read(BLOCK):
                plain.write(block)
                progress(raw.tell() - position)
                position = raw.tell()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        draft.unlink(missing_ok=True)
        state = "is cut short" if isinstance(error, EOFError) else "is corrupt"
        raise InputError(f"{path} {state} ({error}); get it again.") from error
    os.replace(draft, out)
    return out
