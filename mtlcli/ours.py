"""What mtl writes where a user says carries its mark: it may be replaced, a file without stays."""

import mmap
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from mtlcli.errors import InputError

MARK = "written by mtlcli"


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


def plot_mark(path: Path) -> dict[str, str]:
    """The metadata by which matplotlib marks a .png, .pdf or .svg."""
    return {"Software" if path.suffix.lower() == ".png" else "Creator": MARK}
