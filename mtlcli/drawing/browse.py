"""`mtl data --browse`: samples of a dataset file with all their labels on one sheet."""

from pathlib import Path

import numpy as np

from mtlcli.data.hdf5 import read_info
from mtlcli.data.inspect import splits_of
from mtlcli.data.reader import Reader
from mtlcli.drawing.files import require_folder, write_sheet
from mtlcli.drawing.grid import Tile
from mtlcli.drawing.samples import image_tile, scales_of, targets_of, truth_tiles
from mtlcli.errors import InputError
from mtlcli.files import require_ours

PICTURES = (".png", ".jpg", ".jpeg")


def browse(path: Path, picture: Path, *, rows: int = 6, force: bool = False) -> Path:
    """Draw a contact sheet: one row per sample, image and all labels side by side.

    Samples are spread evenly over the splits; a row is named by split and index, by which
    `mtl visualize --dataset` finds it.

    Raises:
        InputError: no such file, not a complete dataset, `picture` is no picture's name, or one
            that mtl did not draw (`force` replaces it).
        RunError: the sheet cannot be written.
    """
    info = read_info(path)
    if picture.suffix.lower() not in PICTURES:
        raise InputError(f"--browse {picture}: give the name of a .png or .jpg file.")
    require_folder("--browse", picture.parent)
    require_ours("--browse", picture, force)
    cells, names = [], []
    for split in (splits := splits_of(path, info)):
        reader = Reader(path, split)
        count = min(len(reader), max(1, rows // len(splits)))
        for index in np.linspace(0, len(reader) - 1, count).astype(int).tolist():
            cells.append(sample_row(reader, index))
            names.append(f"{split} {index}")
    return write_sheet(cells, names, picture)


def sample_row(reader: Reader, index: int) -> list[Tile | None]:
    """A sample's image and labels, None where it has no label."""
    stored, tasks = reader[index], reader.info.tasks
    targets = targets_of(reader.info, tasks, stored)
    labels = truth_tiles(reader.info, tasks, targets, scales_of(reader.info, targets))
    return [image_tile(reader, index, stored["image"]), *labels]
