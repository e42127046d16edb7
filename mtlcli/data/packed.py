"""A file that a mirror has inside a zip: the zip is fetched, the one member taken out of it."""

import lzma
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mtlcli.data.mirror import WrongContent, link_of
from mtlcli.data.transfer import Transfer
from mtlcli.data.way import BLOCK, Note, Part, Report, Way
from mtlcli.files import require_space, size_of

DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError,
    RuntimeError,  # a password is asked for, or (NotImplementedError) an unknown method
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Zipped(Way):
    """The zip grows in a part of its own; only the name and the bytes of the member count."""

    @property
    def packed(self) -> Part:
        """The zip, as far as it has come."""
        return Part.of(self.part.path.parent, f"{self.file}.zip")

    @property
    def begun(self) -> bool:
        """Whether there is a zip to go on with, or the part came out of it."""
        return self.packed.size > 0 or self.part.is_whole(self.url, self.size)

    def run(self) -> None:
        """See `Way.run`."""
        if self.part.is_whole(self.url, self.size):
            return
        Transfer(
            file=f"{self.file}.zip",
            url=link_of(self.url),
            part=self.packed,
            size=None,
            checked=self.checked,
            bars=self.bars,
            patience=self.patience,
        ).run()
        with self.bars.bytes(f"Unpacking {self.file}", self.size or 0) as bar:
            extract(self.packed.path, self.file, self.size, self.part.path, bar)
        self.part.note(self.url, Note(total=self.part.size))

    def discard(self) -> None:
        """Delete the zip, and what a killed run took out of it."""
        self.packed.discard()
        draft_of(self.part.path).unlink(missing_ok=True)


def draft_of(out: Path) -> Path:
    """Where a member grows before it is whole."""
    return out.with_name(out.name + ".draft")


def extract(archive: Path, name: str, size: int | None, out: Path, bar: Report) -> None:
    """Write the one member that is called `name` to `out`, all of it or nothing.

    Args:
        archive: the zip.
        name: of the file, in whatever folder it lies there; no path of the archive is used.
        size: bytes it must have, where known.
        out: the file to write.
        bar: is told of every piece.

    Raises:
        WrongContent: no zip, no such member or several, of another size, or damaged.
        RunError, OSError: the disk is full.
    """
    draft = draft_of(out)
    try:
        with zipfile.ZipFile(archive) as opened:
            member = _only(opened, name, size)
            require_space(out.parent, member.file_size)
            with opened.open(member) as packed, open(draft, "wb") as plain:
                while block := packed.read(BLOCK):
                    plain.write(block)
                    bar(len(block))
        if size_of(draft) != member.file_size:
            raise WrongContent(f"its zip is damaged: {name} is cut short")
        os.replace(draft, out)
    except DAMAGED as error:
        raise WrongContent(f"its zip is damaged ({error})") from error
    except OSError as error:
        if error.errno is None:  # bzip2's way to say that data are damaged
            raise WrongContent(f"its zip is damaged ({error})") from error
        raise
    finally:
        draft.unlink(missing_ok=True)


def _only(opened: zipfile.ZipFile, name: str, size: int | None) -> zipfile.ZipInfo:
    found = [i for i in opened.infolist() if PurePosixPath(i.filename).name == name]
    if len(found) != 1:
        raise WrongContent(f"its zip holds {len(found) or 'no'} files {name}, not one")
    if size not in (None, found[0].file_size):
        raise WrongContent(f"its zip holds {found[0].file_size} bytes of {name}, expected {size}")
    return found[0]
