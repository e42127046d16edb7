"""A sheet of tiles as a file."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from mtlcli.drawing.grid import Cells, draw_sheet
from mtlcli.errors import InputError, MtlError, RunError
from mtlcli.files import save_picture


def write_sheet(cells: Cells, names: Sequence[str], target: Path) -> Path:
    """Save a sheet as the kind of picture that the name says.

    Raises:
        RunError: it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        save_picture(Image.fromarray(draw_sheet(cells, names)), target)
    except OSError as error:
        raise unwritable(target, error) from error
    return target


def require_folder(option: str, folder: Path) -> None:
    """Refuse, before the work begins, a folder that is a file or lies below one.

    Raises:
        InputError: names the file.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"{option} {folder}: {there} is a file, no folder.")


def unwritable(target: Path, error: OSError) -> MtlError:
    """The error for the user."""
    return RunError(f"Cannot write {target}: {error.strerror or error}.")
