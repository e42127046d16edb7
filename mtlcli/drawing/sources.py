"""What the user points at: pictures, folders, patterns, videos, cameras."""

from collections.abc import Iterable, Sequence
from glob import escape, glob, has_magic
from itertools import islice
from pathlib import Path

from mtlcli.drawing.remote import is_url
from mtlcli.errors import InputError
from mtlcli.files import MAC, is_litter, may_write, typed
from mtlcli.maps._picture import is_animated, suffixes
from mtlcli.runs.foreign import EXPORTED
from mtlcli.runs.names import CHECKPOINTS

VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts", ".3gp")
GIF = ".gif"  # a video if it moves
MOST_DIGITS = 4  # of the number of a camera
LOOKED_AT = 10_000  # files below a folder without pictures

Source = Path | int  # a file, or the number of a camera


def list_sources(
    words: Sequence[str], recursive: bool, out: Path
) -> dict[Source | str, tuple[str, str]]:
    """Source or address of the web -> the name of what is written of it ("" of an address, whose
    name turns out when it is fetched), and what it is called in errors.

    Args:
        words: as typed.
        recursive: whether folders are looked into below; what lies in `out` is passed over.
    """
    found: dict[Source | str, tuple[str, str]] = {}
    for word in words:
        if is_url(word):
            found.setdefault(word, ("", word))
            continue
        below = recursive and Path(word).is_dir()
        for source in find_sources(patterns([word], recursive)):
            if isinstance(source, int):
                found.setdefault(source, (f"camera{source}", str(source)))
            elif not (below and out.resolve() in source.resolve().parents):
                name = source.relative_to(word).with_suffix("") if below else Path(source.stem)
                found.setdefault(source, (name.as_posix(), str(source)))
    if not found:
        raise InputError(f"{' '.join(words)}: nothing there but what lies in --out {out}.")
    return found


def patterns(words: Sequence[str], recursive: bool) -> list[str]:
    """What the words mean on the disk, folders with all below them if `recursive`."""
    here = [word for word in words if not is_url(word)]
    return [f"{escape(w)}/**/*" if recursive and Path(w).is_dir() else w for w in here]


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
    if not path.is_dir() and path.exists():
        if not path.is_file():  # reading a pipe would wait
            raise InputError(f"{word} is no regular file.")
        if path.suffix in (*CHECKPOINTS, *EXPORTED):
            raise InputError(
                f"{word} is a network, no picture: `mtl visualize PICTURE --checkpoint "
                f"{typed(word)}`."
            )
        return [path]
    if word.isascii() and word.isdigit() and len(word) <= MOST_DIGITS and not path.exists():
        return [int(word)]
    if not (path.is_dir() or has_magic(word)):
        raise InputError(f"There is no picture, video or folder {word}.")
    found = [p for p in files_of(word) if is_shown(p)]
    if not found:
        complaint = f"{path} holds no pictures" if path.is_dir() else f"No picture matches {word}"
        below = path.is_dir() and any(map(is_shown, islice(path.rglob("*"), LOOKED_AT)))
        hint = "; those below it: --recursive" if below else ""
        kinds = f"({', '.join(suffixes())}) or videos ({', '.join(VIDEOS)})"
        raise InputError(f"{complaint} {kinds}{hint}.")
    return found


def files_of(word: str) -> list[Path]:
    """The files of a folder or pattern by name, without what systems leave there."""
    paths = Path(word).iterdir() if Path(word).is_dir() else map(Path, glob(word, recursive=True))
    return sorted(p for p in paths if not (is_litter(p.name) or MAC in p.parts) and p.is_file())


def is_shown(path: Path) -> bool:
    """Whether the name is that of a picture or video."""
    return path.suffix.lower() in (*suffixes(), *VIDEOS)


def count_others(words: Sequence[str], apart: Path | None = None) -> int:
    """Files of the folders and patterns that are neither, but for those in the folder `apart`."""
    listed = {p for word in words if not Path(word).is_file() for p in files_of(word)}
    own = apart.resolve() if apart else None
    return sum(not is_shown(p) and own not in p.resolve().parents for p in listed)


def is_video(source: Source) -> bool:
    """Whether it has frames."""
    if isinstance(source, int) or source.suffix.lower() in VIDEOS:
        return True
    return source.suffix.lower() == GIF and is_animated(source)


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
