"""A sheet of tiles as a file, or one file per task, made to be read again by programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mtlcli.drawing.grid import Cells, draw_sheet
from mtlcli.drawing.prediction import Maps, channels_last
from mtlcli.drawing.sources import Targets
from mtlcli.errors import InputError, MtlError, RunError
from mtlcli.files import mark_zip, save_picture
from mtlcli.maps._map import Map, Options
from mtlcli.runs.checkpoint import Trained


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


def write_separate(trained: Trained, maps: Maps, out: Path, name: str) -> list[Path]:
    """Write OUT/TASK/NAME.png for each map, and OUT/NAME.npz with the values of all.

    Classes are a PNG of indices with a palette (255 is black), depth 16-bit millimetres (numbers of
    another unit: hundredths), normals 8-bit codes x of n = 2x/255 - 1, boundaries and saliency
    trunc(255 p), white where certain, as `mtl boundary` wants them. The .npz holds what the Python
    API gives (`Prediction`).
    """
    written = []
    for task, own in maps.items():
        path = out / task / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_picture(
            make_picture(trained.tasks[task].map, own, trained.dataset.drawing(task)), path
        )
        written.append(path)
    values_path = out / f"{name}.npz"
    values: dict[str, Any] = {task: channels_last(m) for task, m in maps.items()}
    np.savez(values_path, **values)
    mark_zip(values_path)
    return [*written, values_path]


def save_separate(
    trained: Trained, maps: Maps, out: Path, name: str, targets: Targets | None = None
) -> list[Path]:
    """`write_separate` under a name that costs no file of others.

    Args:
        trained, maps, out: as there.
        name: wanted.
        targets: of several pictures that are written into `out`.

    Raises:
        InputError: `out` is a file, or `name` no name of a file.
        RunError: nothing can be written there.
    """
    require_folder("Folder", out)
    if name in ("", ".", "..") or Path(name).name != name:
        raise InputError(f"'{name}' is no name of a file: leave out folders and suffixes.")
    places = ("{}.npz", *(f"{task}/{{}}.png" for task in maps))
    name = (targets or Targets(out, ())).name(name, *places)
    try:
        return write_separate(trained, maps, out, name)
    except OSError as error:
        raise unwritable(out, error) from error


def make_picture(its: Map, values: np.ndarray, options: Options) -> Image.Image:
    """The file's picture, of Pillow's mode P, I;16, RGB or L."""
    picture = Image.fromarray(its.encode(values, options))
    if its.colour_table:
        picture.putpalette(its.colour_table(options).tobytes())
    return picture
