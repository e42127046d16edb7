"""Members of folders, tar and zip files, read one by one; what points outside is refused."""

import errno
import hashlib
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mtlcli.data.links import Place, follow_links, target_of
from mtlcli.datasets._dataset import Files
from mtlcli.errors import InputError
from mtlcli.files import gigabytes, growing, is_litter

BLOCK = 1 << 20
LARGEST = 1 << 30  # bytes of a member that is read as a whole
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
FALSE_SIZES = (OSError, ValueError, MemoryError)  # what leading to places that are none ends in
LOCKED = (RuntimeError,)  # a password is asked for, or (NotImplementedError) an unknown method


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
            self._names = tuple(sorted(name for name in found if not is_litter(name)))
        return self._names

    def _walk(self) -> Iterable[str]:
        seen = set()  # folders; links may lead back to one
        for folder, below, files in os.walk(self.root, followlinks=True):
            place = os.path.realpath(folder)
            if place in seen:
                below.clear()
                continue
            seen.add(place)
            inside = Path(folder).relative_to(self.root)
            yield from ((inside / f).as_posix() for f in files if Path(folder, f).is_file())

    def read(self, name: str) -> bytes:
        """The bytes of one file."""
        try:
            require_readable(self.label, name, (self.root / name).stat().st_size)
            return (self.root / name).read_bytes()
        except FileNotFoundError as error:
            raise missing(self.label, name) from error

    def located(self, name: str) -> Path:
        """Where the file lies."""
        return self.root / name


@dataclass
class Tar:
    """The regular members of an uncompressed tar file, each read at its place."""

    path: Path
    label: str
    work: Path  # where a member that is needed as a file goes
    index: dict[str, Place]  # name -> position, size

    @classmethod
    def scan(cls, path: Path, label: str, work: Path) -> "Tar":
        """Note where each member lies."""
        index: dict[str, Place] = {}
        links: dict[str, str] = {}
        end = 0
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    name, target = safe_name(member.name, label), target_of(member, label)
                    if member.sparse is not None:
                        raise InputError(f"{label}: {name} is sparse; pack it without --sparse.")
                    if member.size < 0:
                        raise ValueError(f"{name} has {member.size} bytes")
                    if member.isreg():
                        index[name] = (member.offset_data, member.size)
                        links.pop(name, None)  # the last of a name counts
                        end = member.offset_data + member.size
                    elif target:
                        links[name] = target
        except (tarfile.TarError, EOFError, *FALSE_SIZES) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            state = "is cut short" if "end of" in str(error) else "is damaged"
            raise InputError(f"{label} {state} ({error}); get it again.") from error
        if end > path.stat().st_size:
            raise InputError(f"{label} is cut short inside its last member; get it again.")
        return cls(path, label, work, follow_links(index, links))

    def names(self) -> tuple[str, ...]:
        """Every regular member, sorted."""
        return tuple(sorted(name for name in self.index if not is_litter(name)))

    def read(self, name: str) -> bytes:
        """The bytes of one member."""
        if name not in self.index:
            raise missing(self.label, name)
        position, size = self.index[name]
        require_readable(self.label, name, size)
        with open(self.path, "rb", buffering=0) as file:
            file.seek(position)
            data = file.read(size)
        if len(data) != size:
            raise InputError(f"{self.label}: {name} is cut short; get the archive again.")
        return data

    def located(self, name: str) -> Path:
        """The member, copied out into the work folder."""
        position, size = self.index[name]
        with open(self.path, "rb") as file:
            file.seek(position)
            return _copy_out(self.work, self.path, name, file, size)


def _copy_out(work: Path, archive: Path, name: str, file: IO[bytes], size: int) -> Path:
    """A member as a file in the work folder, copied there once."""
    mark = hashlib.sha256(f"{archive.resolve()}\0{name}\0{size}".encode()).hexdigest()[:12]
    out = work / f"inflated-{mark}-{PurePosixPath(name).name}"
    if not out.exists():
        with growing(out, size) as write:
            for start in range(0, size, BLOCK):
                write(file.read(min(BLOCK, size - start)))
    return out


@dataclass
class Zip:
    """The members of a zip file; every process opens it for itself."""

    path: Path
    label: str
    work: Path  # where a member that is needed as a file goes
    _file: zipfile.ZipFile | None = field(default=None, repr=False)
    _pid: int = -1
    _packed: dict[str, str] = field(default_factory=dict, repr=False)  # safe name -> as packed

    def _zip(self) -> zipfile.ZipFile:
        if self._file is None or self._pid != os.getpid():
            try:
                self._file, self._pid = zipfile.ZipFile(self.path), os.getpid()
            except (*DAMAGED, OSError, ValueError, NotImplementedError) as error:
                raise InputError(f"{self.label} is damaged ({error}); get it again.") from error
            found = (i.filename for i in self._file.infolist() if not i.is_dir())
            self._packed = {safe_name(n, self.label): n for n in found}
        return self._file

    def names(self) -> tuple[str, ...]:
        """Every member that is a file, sorted."""
        self._zip()
        return tuple(sorted(name for name in self._packed if not is_litter(name)))

    def read(self, name: str) -> bytes:
        """The bytes of one member, its checksum verified."""
        opened = self._zip()
        if name not in self._packed:
            raise missing(self.label, name)
        require_readable(self.label, name, opened.getinfo(self._packed[name]).file_size)
        with self._unpacking(name):
            return opened.read(self._packed[name])

    @contextmanager
    def _unpacking(self, name: str) -> Iterator[None]:
        try:
            yield
        except LOCKED as error:
            raise InputError(
                f"{self.label}: {name} cannot be unpacked ({error}); pack it without a password, "
                "by deflate."
            ) from error
        except (*DAMAGED, OSError) as error:
            of_the_disk = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
            if of_the_disk:  # else it is the archive that leads to a place that is none
                raise
            raise InputError(
                f"{self.label}: {name} is damaged ({error}); get the archive again."
            ) from error

    def located(self, name: str) -> Path:
        """The member, copied out into the work folder."""
        info = self._zip().getinfo(self._packed[name])
        with self._unpacking(name), self._zip().open(info) as file:
            return _copy_out(self.work, self.path, name, file, info.file_size)

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

    def located(self, name: str) -> Path:
        """The member as a file of its own."""
        return self._part(name).located(name)

    def _part(self, name: str) -> Files:
        if name not in self._owner:
            raise missing(self.label, name)
        return self.parts[self._owner[name]]


def require_readable(archive: str, name: str, size: int) -> None:
    """Refuse, before memory is taken, a member that is larger than any picture or label.

    Raises:
        InputError: names it and its size.
    """
    if size > LARGEST:
        raise InputError(
            f"{archive}: {name} has {gigabytes(size)}, more than any picture or label; refusing it."
        )


def missing(archive: str, name: str) -> InputError:
    """The error for a member that is not there."""
    return InputError(f"{archive} lacks {name}: the archive is incomplete, get it again.")
