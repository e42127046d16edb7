"""A sheet of tiles as a file, or one file per task, made to be read again by programs."""

from collections.abc import Iterable, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mtlcli.drawing.grid import Cells, draw_grid, draw_sheet
from mtlcli.drawing.lens import Lens
from mtlcli.drawing.overlay import can_overlay, overlay
from mtlcli.drawing.points import cloud_files
from mtlcli.drawing.prediction import Maps, channels_last
from mtlcli.drawing.sidecar import describe
from mtlcli.drawing.sources import Targets
from mtlcli.drawing.tiles import tiles_of
from mtlcli.errors import InputError, MtlError, RunError
from mtlcli.files import mark_zip, read_json, save_picture, write_json
from mtlcli.maps._map import Map, Options
from mtlcli.runs.checkpoint import Trained


def write_sheet(cells: Cells, names: Sequence[str], target: Path) -> Path:
    """Save a sheet as the kind of picture that the name says (raises as `write_picture`)."""
    return write_picture(draw_sheet(cells, names), target)


def write_picture(picture: np.ndarray, target: Path) -> Path:
    """Save RGB (H, W, 3) uint8 as the kind of picture that the name says.

    Raises:
        RunError: it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        save_picture(Image.fromarray(picture), target)
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


def write_separate(
    trained: Trained,
    image: np.ndarray,
    maps: Maps,
    out: Path,
    name: str,
    source: str = "",
    eye: Lens | None = None,
) -> list[Path]:
    """Write for each map its values and a picture to look at, and what belongs to all of them.

    OUT/TASK/NAME.png: classes are a PNG of indices with a palette (255 is black), depth 16-bit
    millimetres (numbers of another unit: hundredths), normals 8-bit codes x of n = 2x/255 - 1,
    boundaries and saliency trunc(255 p), white where certain, as `mtl boundary` wants them.
    OUT/drawn/TASK/NAME.png: in colours with their key. OUT/overlay/NAME.png: classes and boundaries
    on the picture. OUT/NAME.json: see `mtlcli.drawing.sidecar`. OUT/NAME.npz, the last of what is
    returned: what the Python API gives (`Prediction`). `eye` is the camera of points that were
    written under the same name.
    """
    paths = [out / place.format(name) for place in places_of(trained, maps)]
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
        *pictures, notes, values = paths
        kept: dict[str, Any] = {task: channels_last(m) for task, m in maps.items()}
        np.savez(values, **kept)
        mark_zip(values)
        files = [*(p.relative_to(out) for p in paths), *(cloud_files(Path(name)) if eye else ())]
        write_json(notes, describe(trained, image, maps, files, source, eye))
        for (task, own), path, drawn in zip(maps.items(), pictures[::2], pictures[1::2]):
            options = trained.dataset.drawing(task)
            save_picture(make_picture(trained.tasks[task].map, own, options), path)
            save_picture(Image.fromarray(draw_grid(tiles_of(trained, {task: own}))), drawn)
        if len(pictures) > 2 * len(maps):
            save_picture(Image.fromarray(overlay(trained, image, maps)), pictures[-1])
    except OSError as error:
        raise unwritable(out, error) from error
    return paths


def places_of(trained: Trained, maps: Iterable[str]) -> list[str]:
    """The files of `write_separate`, `{}` for the name: two pictures of each task, the overlay
    where there is something to lay over, notes and values.
    """
    of_tasks = [place for task in maps for place in (f"{task}/{{}}.png", f"drawn/{task}/{{}}.png")]
    last = ["overlay/{}.png"] if can_overlay(trained, maps) else []
    return [*of_tasks, *last, "{}.json", "{}.npz"]


def save_separate(
    trained: Trained,
    image: np.ndarray,
    maps: Maps,
    out: Path,
    name: str,
    source: str = "",
    *,
    chosen: bool = True,
) -> list[Path]:
    """`write_separate` under a name that costs no file of others; nor, unless the name was chosen,
    the maps of another picture.

    Raises:
        InputError: `out` is a file, or `name` no name of a file.
        RunError: nothing can be written there.
    """
    require_folder("Folder", out)
    if name in ("", ".", "..") or Path(name).name != name:
        raise InputError(f"'{name}' is no name of a file: leave out folders and suffixes.")
    targets, places = Targets(out, ()), places_of(trained, maps)
    names = chain([name], (f"{name}_{number}" for number in count(2)))
    name = next(
        stem
        for stem in names
        if all(targets.is_free(out / place.format(stem)) for place in places)
        and (chosen or is_of(out / f"{stem}.json", source))
    )
    return write_separate(trained, image, maps, out, name, source)


def is_of(notes: Path, source: str) -> bool:
    """Whether notes (see `mtlcli.drawing.sidecar`) are of this picture's file, or not there yet."""
    if not notes.exists():
        return True
    picture = read_json(notes).get("picture")
    return bool(source) and isinstance(picture, dict) and picture.get("source") == source


def make_picture(its: Map, values: np.ndarray, options: Options) -> Image.Image:
    """The file's picture, of Pillow's mode P, I;16, RGB or L."""
    picture = Image.fromarray(its.encode(values, options))
    if its.colour_table:
        picture.putpalette(its.colour_table(options).tobytes())
    return picture
