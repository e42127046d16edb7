"""What the user points at: pictures, folders, patterns, videos, cameras."""

from collections.abc import Iterable, Sequence
from glob import glob, has_magic
from pathlib import Path

from mtlcli.data.images import SUFFIXES as PICTURES
from mtlcli.errors import InputError

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
    """Names for what is written into a folder: none twice, and never that of a source."""

    def __init__(self, folder: Path, sources: Iterable[Source]) -> None:
        self.folder = folder
        self.taken = {s.resolve() for s in sources if isinstance(s, Path)}

    def name(self, stem: str, suffix: str) -> str:
        """`stem`, with a number if OUT/stem.suffix is taken."""
        name, number = stem, 1
        while (path := (self.folder / f"{name}{suffix}").resolve()) in self.taken:
            number += 1
            name = f"{stem}_{number}"
        self.taken.add(path)
        return name
