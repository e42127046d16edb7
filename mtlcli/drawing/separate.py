"""One file per task of a picture, made to be read again by programs."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mtlcli.drawing.prediction import Maps, channels_last
from mtlcli.files import mark_zip, save_picture
from mtlcli.maps._map import Map, Options
from mtlcli.runs.checkpoint import Trained


def write_separate(trained: Trained, maps: Maps, out: Path, name: str) -> list[Path]:
    """Write OUT/TASK/NAME.png for each map, and OUT/NAME.npz with the values of all.

    Classes are a PNG of indices with a palette (255 is black), depth 16-bit millimetres, normals
    8-bit codes x of n = 2x/255 - 1, boundaries and saliency trunc(255 p), white where certain, as
    `mtl boundary` wants them. The .npz holds what the Python API gives (`Prediction`).
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


def make_picture(its: Map, values: np.ndarray, options: Options) -> Image.Image:
    """The file's picture, of Pillow's mode P, I;16, RGB or L."""
    picture = Image.fromarray(its.encode(values))
    if its.colour_table:
        picture.putpalette(its.colour_table(options).tobytes())
    return picture
