"""`mtl visualize`: a picture and every task's prediction of it in one grid."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from mtlcli import checkpoint
from mtlcli.checkpoint import Trained
from mtlcli.data.images import find_images, read_image
from mtlcli.device import pick_device
from mtlcli.errors import InputError, RunError
from mtlcli.predict import predict
from mtlcli.report.grid import Tile, draw_grid, tile_of


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What `visualize` did."""

    checkpoint: Path
    written: tuple[Path, ...]
    failed: Mapping[Path, str]  # picture -> why


def visualize(
    source: Path,
    *,
    path: Path | None = None,
    out: Path = Path("visualized"),
    device: str = "auto",
    quiet: bool = False,
) -> Drawn:
    """Draw the prediction grid of a picture, or of each picture of a folder.

    Args:
        source: picture or folder.
        path: checkpoint or run folder; by default the run written last.
        out: folder for OUT/<name>.png.
        device: auto, cpu, cuda or mps.
        quiet: no progress bar.

    Raises:
        InputError: no such picture, folder or checkpoint, or the only picture is unreadable.
    """
    pictures = find_images(source)
    trained = checkpoint.load(path or checkpoint.newest(), pick_device(device))
    written, failed = [], {}
    for picture in tqdm(pictures, desc="visualize", disable=True if quiet else None):
        try:
            written.append(draw_one(trained, picture, out))
        except InputError as error:
            if len(pictures) == 1:
                raise
            failed[picture] = str(error)
    return Drawn(checkpoint=trained.path, written=tuple(written), failed=failed)


def draw_one(trained: Trained, picture: Path, out: Path) -> Path:
    """Write the grid of one picture; returns its path."""
    image = read_image(picture)
    target = out / f"{picture.stem}.png"
    try:
        out.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grid(trained, image, predict(trained, image))).save(target)
    except OSError as error:
        raise RunError(f"Cannot write {target}: {error.strerror or error}.") from error
    return target


def grid(trained: Trained, image: np.ndarray, maps: Mapping[str, np.ndarray]) -> np.ndarray:
    """Image and predictions as one picture, RGB."""
    tiles = [Tile(title="Image", picture=image), *tiles_of(trained, maps)]
    return draw_grid(tiles, columns=min(len(tiles), 4 if len(tiles) > 6 else 3))


def tiles_of(trained: Trained, maps: Mapping[str, np.ndarray]) -> list[Tile]:
    """A tile for each map."""
    return [
        tile_of(task, maps[name], names_of(trained.dataset, name), drawing(trained.dataset, name))
        for name, task in trained.tasks.items()
    ]


def names_of(dataset: Mapping[str, Any], task: str) -> tuple[str, ...]:
    """Class names of a task, () where it has none."""
    return tuple(dataset["classes"].get(task, ()))


def drawing(dataset: Mapping[str, Any], task: str) -> dict[str, Any]:
    """What a task's `draw` needs to know of the dataset."""
    return {"palette": dataset["palettes"].get(task)}
