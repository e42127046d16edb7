"""A file on Google Drive, through gdown, which knows its pages and goes on where it stopped."""

import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mtlcli.data import mirror
from mtlcli.data.mirror import MirrorError
from mtlcli.data.way import BLOCK, Bars, Note, Report, Way
from mtlcli.errors import MtlError
from mtlcli.files import require_space, size_of

NO_REST = "byte range"  # gdown says so where what was left cannot be continued
SIGNS = {  # what a page of Drive or gdown says, in small letters -> why there is no file
    "too many users": "its quota for today is used up, try again tomorrow",
    "public link": "shows no link to the file: not shared with everybody, or fetched too often",
}


@dataclass(frozen=True, kw_only=True)
class Drive(Way):
    """Lets gdown work in a folder of its own, so that its partial files meet nobody else's.

    gdown does not see whether the file changed between two runs: its checksum tells, or the one
    that every .gz carries.
    """

    @property
    def scratch(self) -> Path:
        """Where gdown keeps what it has, under names of its own."""
        return self.part.path.with_name(self.part.path.name + ".drive")

    @property
    def begun(self) -> bool:
        """Whether gdown has a rest to ask for, or the part came from here."""
        return bool(self._held()) or self.part.is_whole(self.url, self.size)

    def run(self) -> None:
        """See `Way.run`; as long as bytes come, it is tried again."""
        if self.part.is_whole(self.url, self.size):
            return
        self.scratch.mkdir(exist_ok=True)
        if self.size is not None:
            require_space(self.scratch, self.size - self._bytes())
        whole = self.scratch / self.file
        while not whole.exists():
            self._grow(whole)
        self._require_file(whole)
        self.part.note(self.url, Note(total=size_of(whole)))
        os.replace(whole, self.part.path)
        self.discard()

    def discard(self) -> None:
        """Delete what gdown has."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _require_file(self, whole: Path) -> None:
        with open(whole, "rb") as opened:
            head = opened.read(BLOCK)
        try:
            mirror.require_magic(self.file, head)
        except MirrorError:
            self.discard()
            raise

    def _held(self) -> list[Path]:
        return list(self.scratch.iterdir()) if self.scratch.exists() else []

    def _bytes(self) -> int:
        return sum(map(size_of, self._held()))

    def _grow(self, whole: Path) -> None:
        """One try (raises MirrorError if it brought nothing)."""
        if len(self._held()) > 1:  # gdown would not choose
            self._empty()
        before = self._bytes()
        try:
            self._download(whole, before)
        except MirrorError as error:
            if before and NO_REST in str(error):
                self._empty()
            elif self._bytes() <= before:
                self._tidy()
                raise

    def _empty(self) -> None:
        for path in self._held():
            path.unlink()

    def _tidy(self) -> None:
        """Leave no empty file behind."""
        if not self._bytes():
            self.discard()

    def _download(self, whole: Path, before: int) -> None:
        import gdown

        with _Progress(self.file, self.scratch, self.bars, before) as progress:
            try:
                gdown.download(
                    id=self.url.removeprefix(mirror.GDRIVE),
                    output=str(whole),
                    quiet=True,
                    resume=True,
                    timeout=self.patience.silence,
                    retries=1,
                    progress=progress,
                )
            except MtlError:  # of our bars: no space
                raise
            except Exception as error:  # of many kinds, its own and of its libraries
                mirror.raise_if_of_the_disk(error)
                raise MirrorError(reason_of(error)) from error
        if not whole.exists():
            raise MirrorError("gdown could not get it")


class _Progress(ExitStack):
    """What gdown calls after each piece; the bar begins when the length is known."""

    def __init__(self, file: str, folder: Path, bars: Bars, before: int) -> None:
        super().__init__()
        self.file, self.folder, self.bars, self.done = file, folder, bars, before
        self.bar: Report | None = None

    def __call__(self, done: int, total: int | None) -> None:
        """Show that there are `done` of `total` bytes."""
        if self.bar is None:
            require_space(self.folder, (total or 0) - done)
            title = f"Downloading {self.file}"
            self.bar = self.enter_context(self.bars.bytes(title, total or 0, self.done))
        self.bar(done - self.done)
        self.done = done


def reason_of(error: Exception) -> str:
    """Why Drive gave no file, in a few words."""
    from requests import exceptions

    cause = error.__cause__
    if isinstance(cause, exceptions.RequestException):  # what gdown tried more than once
        error = cause
    said = " ".join(str(error).split())
    for sign, reason in SIGNS.items():
        if sign in said.lower():
            return reason
    if isinstance(error, exceptions.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}"
    if isinstance(error, exceptions.Timeout) or "timed out" in said:
        return "timed out"
    if isinstance(error, exceptions.ChunkedEncodingError):
        return "cut off the download"
    if isinstance(error, exceptions.ConnectionError):
        return "cannot be reached"
    return said[:200] or type(error).__name__
