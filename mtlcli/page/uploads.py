"""The folder of what visitors bring: which files the page may read, and how much it holds."""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtlcli.errors import InputError

MOST_BYTES = 25 * 2**20  # of an upload
MOST_STORED = 2**30  # bytes of all that lies in the folder at a time
PER_FILE = 4096  # bytes that a file counts beside its content, so that empty ones end, too
ENVELOPE = 2**16  # bytes of a request around the pictures in it
FORGET = 600  # seconds after which a file is deleted


class Refused(Exception):
    """An answer without asking the page: `status` is HTTP's."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class Uploads:
    """A folder of this process alone.

    Args:
        folder: where the page's server puts uploads, and the pictures it makes of them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.realpath(folder))
        self.arriving = 0  # bytes of requests that are being received

    def own(self, path: object) -> Path:
        """The real path of a regular file in the folder.

        Raises:
            InputError: it is anything else; what, and whether it exists, is not told.
        """
        try:
            real = Path(os.path.realpath(str(path)))
            if real.is_relative_to(self.folder) and stat.S_ISREG(os.lstat(real).st_mode):
                return real
        except (OSError, ValueError):
            pass  # said below, like all else
        raise InputError("This is no file that was uploaded here.")

    def files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """All files that are there, with what the disk knows of them."""
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                try:
                    yield path, path.lstat()
                except FileNotFoundError:
                    continue  # deleted meanwhile

    def stored(self) -> int:
        """Bytes of all files."""
        return sum(PER_FILE + facts.st_size for _, facts in self.files())

    def fits(self, size: int) -> bool:
        """Whether there is room for so many bytes more."""
        return self.stored() + self.arriving + size <= MOST_STORED

    def sweep(self) -> None:
        """Delete what is older than `FORGET`, uploads that broke off among it."""
        now = time.time()
        for path, facts in self.files():
            if now - facts.st_ctime > FORGET:
                path.unlink(missing_ok=True)

    @contextmanager
    def room_for(self, size: int) -> Iterator[None]:
        """While a request of so many bytes is received.

        Raises:
            Refused: it is larger than one picture may be, or the folder is full.
        """
        if size > MOST_BYTES + ENVELOPE:
            limit = f"up to {MOST_BYTES // 2**20} MB"
            raise Refused(413, f"This is more than the maximum allowed size: {limit} at a time.")
        self.sweep()
        if not self.fits(size):
            raise Refused(507, "There is no room for more pictures: come back in some minutes.")
        self.arriving += size
        try:
            yield
        finally:
            self.arriving -= size
