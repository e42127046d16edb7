"""Samples of a dataset: ground truth, under it what networks predict, under that the error."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mtlcli.data.hdf5 import Info
from mtlcli.data.reader import Reader
from mtlcli.drawing.choices import ColourMap
from mtlcli.drawing.files import require_folder, write_sheet
from mtlcli.drawing.grid import BEHIND, Cells, Tile, tile_of
from mtlcli.drawing.networks import (
    Networks,
    all_maps,
    by_task,
    in_colours,
    load_networks,
    shared_scales,
)
from mtlcli.drawing.pictures import Drawn
from mtlcli.drawing.prediction import Maps
from mtlcli.drawing.scales import OWN, Range, ranges
from mtlcli.drawing.sources import Targets
from mtlcli.drawing.tiles import tiles_of
from mtlcli.errors import InputError
from mtlcli.home import datasets_dir
from mtlcli.runs.checkpoint import Trained, tasks_of

Labels = Mapping[str, np.ndarray]
Ranges = Mapping[str, Range]  # task -> range


def visualize_samples(
    dataset: str,
    indices: Sequence[int] = (0,),
    *,
    split: str = "val",
    paths: Sequence[Path] = (),
    tasks: Sequence[str] = (),
    out: Path = Path("visualized"),
    colormap: ColourMap = "inferno",
    force: bool = False,
    device: str = "auto",
    quiet: bool = False,
) -> Drawn:
    """Draw samples of a prepared dataset: ground truth, prediction and error in rows.

    Args:
        dataset: its name, as `mtl prepare` has it.
        indices: of the samples in the split.
        split: of the dataset.
        paths, tasks, out, colormap, force, device, quiet: as in `visualize`.

    Raises:
        InputError: the dataset is not prepared, or has no such split or sample.
        RunError: nothing can be written to `out`.
    """
    require_folder("--out", out)
    reader = Reader(datasets_dir() / f"{dataset}.h5", split)
    check_indices(reader, indices)
    networks = load_networks(paths, tasks, device, dataset, colormap).unscaled
    written, targets = [], Targets(out, (), force)
    for index in tqdm(indices, desc="visualize", disable=True if quiet else None):
        cells, names = sample_cells(networks, reader, index, colormap)
        name = targets.name(f"{dataset}_{split}_{index}", "{}.png")
        written.append(write_sheet(cells, names, out / f"{name}.png"))
    return Drawn(
        networks=networks.paths,
        remark=networks.remark,
        written=tuple(written),
        notes=networks.notes,
    )


def check_indices(reader: Reader, indices: Sequence[int]) -> None:
    """Raises InputError for an index that the split does not have."""
    for index in indices:
        if not 0 <= index < len(reader):
            raise InputError(
                f"--index {index}: {reader.path.stem} {reader.split} has {len(reader)} samples, "
                f"0 to {len(reader) - 1}."
            )


def sample_cells(
    networks: Networks, reader: Reader, index: int, colormap: ColourMap = "inferno"
) -> tuple[Cells, list[str]]:
    """The sheet of one sample as cells, and the names of its rows."""
    info = in_colours(reader.info, reader.info.tasks, colormap)
    stored = reader[index]
    image = stored["image"]
    targets = targets_of(info, networks.tasks, stored)
    maps = all_maps(networks, image, image.shape[:2])
    truths, predicted = ranges_of(networks, targets, maps, info)
    first = image_tile(reader, index, image)
    rows: dict[str, list[Tile | None]] = {
        "Ground truth": [first, *truth_tiles(info, networks.tasks, targets, truths)]
    }
    several = len(networks.trained) > 1
    for name, trained in networks.trained.items():
        drawn = tiles_of(trained, maps[name], predicted[name])
        tiles = [
            replace(tile, note=OWN) if is_off(task, truths, predicted[name]) else tile
            for task, tile in zip(maps[name], drawn)
        ]
        errors = error_tiles(networks, trained, maps[name], targets, info)
        own = by_task(networks, tiles, maps[name])
        rows[name if several else "Prediction"] = [None, *own]
        rows[f"Error of {name}" if several else "Error"] = [None, *errors]
    return list(rows.values()), list(rows)


def targets_of(dataset: Info, tasks: Sequence[str], stored: Mapping[str, np.ndarray]) -> Labels:
    """The labels that a sample has for these tasks, as the losses want them."""
    return {name: dataset.map(name).target(stored[name]) for name in tasks if name in stored}


def image_tile(reader: Reader, index: int, image: np.ndarray) -> Tile:
    """The picture of a sample, which says which one it is."""
    return Tile(title="Image", picture=image, note=f"{reader.split} {reader.ids[index]}")


def scales_of(dataset: Info, targets: Labels) -> dict[str, Range]:
    """The range of the labels that have one."""
    maps = {name: dataset.map(name) for name in targets}
    return {name: its.scale(targets[name]) for name, its in maps.items() if its.scale}


def ranges_of(
    networks: Networks, targets: Labels, maps: Mapping[str, Maps], dataset: Info
) -> tuple[Ranges, Mapping[str, Ranges]]:
    """Task -> range of the labels, and the same for each network, of the maps that have one."""
    together = shared_scales(networks, maps)
    truths: dict[str, Range] = {}
    own_ranges: dict[str, dict[str, Range]] = {name: {**together} for name in maps}
    for task in together.keys() & targets.keys():
        if (targets[task] == dataset.map(task).unlabelled).all():
            truths[task] = together[task]
            continue
        having = [name for name in maps if task in maps[name]]
        found = [maps[name][task] for name in having]
        truths[task], own = ranges(dataset.map(task), targets[task], found)
        for name, its in zip(having, own):
            own_ranges[name][task] = its
    return truths, own_ranges


def is_off(task: str, truths: Ranges, predicted: Ranges) -> bool:
    """Whether a prediction is drawn in another range than its label."""
    return task in truths and predicted[task] != truths[task]


def truth_tiles(
    dataset: Info,
    names: Sequence[str],
    targets: Labels,
    shared: Mapping[str, Mapping[str, Any]],
) -> list[Tile | None]:
    """The labels, None where the sample has none."""
    tiles: list[Tile | None] = []
    tasks = tasks_of(targets, dataset)
    for name in names:
        options = {**dataset.drawing(name), **shared.get(name, {})}
        tiles.append(tile_of(tasks[name], targets[name], options) if name in targets else None)
    return tiles


def error_tiles(
    networks: Networks,
    trained: Trained,
    maps: Maps,
    targets: Labels,
    dataset: Info,
) -> list[Tile | None]:
    """Where predictions depart from labels; None where there is no label or prediction, an empty
    tile for a network of other classes.
    """
    tiles: list[Tile | None] = []
    for name in networks.tasks:
        if name not in maps or name not in targets:
            tiles.append(None)
            continue
        task = trained.tasks[name]
        own, there = (d.classes.get(name, ()) for d in (trained.dataset, dataset))
        if own != there:
            nothing = np.full((*targets[name].shape[-2:], 3), BEHIND, np.uint8)
            tiles.append(Tile(title=task.title, picture=nothing, note="trained on other classes"))
            continue
        error = task.map.error(maps[name], targets[name], dataset.drawing(name))
        tiles.append(
            Tile(title=task.title, picture=error.picture, key=error.key, note=error.summary)
        )
    return tiles
