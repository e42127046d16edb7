"""What the user points at: pictures, folders, patterns, videos, cameras."""

from collections.abc import Iterable, Sequence
from glob import glob, has_magic
from pathlib import Path

from mtlcli.data.images import SUFFIXES as PICTURES
from mtlcli.errors import InputError
from mtlcli.files import may_write

VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".gif")

Source = Path | int  # a file, or the number of a camera


def find_sources(words: Sequence[str]) -> list[Source]:
    """All files and cameras that the words mean, none twice.

    A word is a picture, a video, a folder of them, a pattern (`**` looks into folders as well), or
    a number: that of a camera.

    Raises:
        InputError: a word with nothing behind it.
    """
    found = [source for word in words for source in find(word)]
    return list(dict.fromkeys(found))


def find(word: str) -> Sequence[Source]:
    """What one word means."""
    path = Path(word)
    if path.is_dir():
        return shown_in(path.iterdir(), f"{path} holds no pictures")
    if path.exists():
        return [path]
    if word.isdigit():
        return [int(word)]
    if has_magic(word):
        return shown_in(map(Path, glob(word, recursive=True)), f"No picture matches {word}")
    raise InputError(f"There is no picture, video or folder {word}.")


def shown_in(paths: Iterable[Path], complaint: str) -> list[Path]:
    """Pictures and videos among the paths, by name."""
    found = sorted(p for p in paths if p.suffix.lower() in (*PICTURES, *VIDEOS) and p.is_file())
    if not found:
        raise InputError(f"{complaint} ({', '.join(PICTURES)}) or videos ({', '.join(VIDEOS)}).")
    return found


def is_video(source: Source) -> bool:
    """Whether it has frames."""
    return isinstance(source, int) or source.suffix.lower() in VIDEOS


class Targets:
    """Names for what is written into a folder: none twice, and never that of a source or of a file
    that mtl did not write.

    Args:
        folder: OUT.
        sources: what is read; not written over even by force.
        force: also replace files of others.
    """

    def __init__(self, folder: Path, sources: Iterable[Source], force: bool = False) -> None:
        self.folder, self.force = folder, force
        files = [s for s in sources if isinstance(s, Path)]
        self.taken = {s.resolve() for s in files}
        self.read = {identity(s) for s in files}

    def name(self, stem: str, *places: str) -> str:
        """`stem`, with a number if a file that is to be written under this name is taken.

        Args:
            stem: of the name.
            places: the files, relative to the folder, `{}` for the name: "{}.png", "depth/{}.png".
        """
        name, number = stem, 1
        while not all(map(self.is_free, paths := [self.folder / p.format(name) for p in places])):
            number += 1
            name = f"{stem}_{number}"
        self.taken |= {path.resolve() for path in paths}
        return name

    def is_free(self, path: Path) -> bool:
        """Whether a file can be written without loss."""
        if path.resolve() in self.taken or path.is_dir():
            return False
        is_source = path.exists() and identity(path) in self.read  # by another name
        return not is_source and may_write(path, self.force)


def identity(path: Path) -> tuple[int, int]:
    """What all names of a file have in common."""
    facts = path.stat()
    return facts.st_dev, facts.st_ino
