"""One network, or several side by side, and what they make of a picture."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mtlcli.data.hdf5 import Info
from mtlcli.drawing.choices import ColourMap
from mtlcli.drawing.grid import AREA, Cells, Tile, in_columns, tile_size
from mtlcli.drawing.prediction import (
    Maps,
    choose_tasks,
    logits_of,
    maps_of,
    network_input,
)
from mtlcli.drawing.tiles import image_tile, sheet_tiles, tiles_of
from mtlcli.maps._map import Map
from mtlcli.ops.devices import pick_device
from mtlcli.runs import checkpoint
from mtlcli.runs.checkpoint import Trained
from mtlcli.runs.default_run import default_run
from mtlcli.runs.names import file_of

Logits = Mapping[str, Mapping[str, Tensor]]  # name of the network -> task -> (B, C, h, w)


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Networks by the names they are shown under, and the tasks that are shown."""

    trained: Mapping[str, Trained]
    tasks: tuple[str, ...]  # each is predicted by one of them at least
    remark: str = ""  # of one that nobody named: why it was chosen, and how another is

    @property
    def notes(self) -> tuple[str, ...]:
        """What is applied to their maps beyond the networks themselves."""
        return tuple(note for trained in self.trained.values() for note in trained.notes)

    @property
    def unscaled(self) -> "Networks":
        """The same as they were trained."""
        return replace(self, trained={name: t.unscaled for name, t in self.trained.items()})

    @property
    def paths(self) -> tuple[Path, ...]:
        """Their checkpoints."""
        return tuple(t.path for t in self.trained.values())

    @property
    def on_cpu(self) -> bool:
        """Whether they compute on the processor."""
        return all(t.device.type == "cpu" for t in self.trained.values())

    def map_of(self, task: str) -> Map:
        """What a task's maps look like."""
        return next(t.tasks[task].map for t in self.trained.values() if task in t.tasks)

    def pick_shown(self, trained: Trained, maps: Maps) -> dict[str, np.ndarray]:
        """Of a network's maps those that are shown, in order."""
        return {name: maps[name] for name in self.tasks if name in maps}


def load_networks(
    paths: Sequence[Path],
    tasks: Sequence[str],
    device: str,
    dataset: str | None = None,
    colormap: ColourMap | None = None,
) -> Networks:
    """The networks of these checkpoints or run folders; if there are none, that of `default_run`
    (for a dataset); `colormap` is that of their depths, if it is not the usual.

    Raises:
        InputError: no such checkpoint, or a task that the networks do not predict.
    """
    target = pick_device(device)
    choice = None if paths else default_run(dataset)
    found = [checkpoint.load(path, target) for path in ([choice.path] if choice else paths)]
    found = [with_colours(t, colormap) for t in found] if colormap else found
    if tasks:
        able = [t for t in found if set(tasks) <= set(t.tasks)] or found
        known = choose_tasks(able[0], tuple(tasks))
    else:
        known = tuple(dict.fromkeys(name for t in found for name in t.tasks))
    remark = choice.remark("--checkpoint NAME") if choice else ""
    return Networks(trained=dict(zip(names_of(found), found)), tasks=known, remark=remark)


def with_colours(trained: Trained, colormap: ColourMap) -> Trained:
    """The same network, whose maps of numbers are drawn in another colour map."""
    return replace(trained, dataset=in_colours(trained.dataset, trained.tasks, colormap))


def in_colours(dataset: Info, tasks: Iterable[str], colormap: ColourMap) -> Info:
    """The same dataset, whose maps of numbers are drawn in another colour map."""
    options = {
        name: {**dataset.options.get(name, {}), "colormap": colormap}
        for name in tasks
        if dataset.map(name).scale
    }
    return replace(dataset, options={**dataset.options, **options})


def names_of(found: Sequence[Trained]) -> list[str]:
    """Names of the runs, with the file and a number where that is not clear."""
    files = [file_of(t.path) for t in found]
    names = [t.title for t in found]
    twice = len(set(names)) < len(names)
    return [
        f"{name}/{file.stem} ({i})" if twice else name
        for i, (name, file) in enumerate(zip(names, files), 1)
    ]


def inputs(networks: Networks, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Pictures of one size as each of the networks wants them: name -> (B, 3, h, w)."""
    return {
        name: np.stack([network_input(t, image) for image in images])
        for name, t in networks.trained.items()
    }


def all_maps(
    networks: Networks, image: np.ndarray, size: tuple[int, int]
) -> dict[str, dict[str, np.ndarray]]:
    """Name of the network -> task -> map at this height and width."""
    return maps_from(networks, all_logits(networks, inputs(networks, [image])), size)


def all_logits(networks: Networks, pixels: Mapping[str, np.ndarray]) -> Logits:
    """Name of the network -> what it says to its `inputs`."""
    return {name: logits_of(t, pixels[name]) for name, t in networks.trained.items()}


def one_by_one(logits: Logits) -> Iterator[Logits]:
    """Each picture's logits as a batch of its own."""
    count = len(next(iter(next(iter(logits.values())).values())))
    for i in range(count):
        yield {
            name: {task: batch[i : i + 1] for task, batch in own.items()}
            for name, own in logits.items()
        }


def maps_from(
    networks: Networks, logits: Logits, size: tuple[int, int]
) -> dict[str, dict[str, np.ndarray]]:
    """The second half of `all_maps`, of one picture's logits."""
    return {
        name: networks.pick_shown(trained, maps_of(trained, logits[name], size))
        for name, trained in networks.trained.items()
    }


def drawn_size(image: np.ndarray, area: int = AREA) -> tuple[int, int]:
    """Height and width at which maps are computed to be drawn: a tile's, in the proportions of
    the picture.
    """
    height, width = image.shape[:2]
    tile = tile_size(height, width, area)
    scale = min(tile[0] / height, tile[1] / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def cells_of(
    networks: Networks,
    image: np.ndarray,
    maps: Mapping[str, Maps],
    shared: Mapping[str, Mapping[str, Any]] | None = None,
    keyed: bool = True,
) -> tuple[Cells, list[str]]:
    """A picture's sheet as cells and names of rows: one row for each network, or a block without
    names for a single one. Depths of all networks are drawn in one range.
    """
    if shared is None:
        shared = shared_scales(networks, maps)
    if len(networks.trained) == 1:
        ((name, trained),) = networks.trained.items()
        shown = networks.pick_shown(trained, maps[name])
        return in_columns(sheet_tiles(trained, image, shown, shared, keyed)), []
    first = image_tile(image, *networks.trained.values())
    rows = [
        by_task(networks, tiles_of(trained, maps[name], shared, keyed), maps[name])
        for name, trained in networks.trained.items()
    ]
    return [[None if i else first, *row] for i, row in enumerate(rows)], list(networks.trained)


def shared_scales(networks: Networks, maps: Mapping[str, Maps]) -> dict[str, dict[str, float]]:
    """The ranges in which all networks' maps can be drawn alike: those of all maps together."""
    shared = {}
    for task in networks.tasks:
        scale = networks.map_of(task).scale
        if scale:
            there = [own[task] for own in maps.values() if task in own]
            shared[task] = scale(np.concatenate(there, axis=-1))
    return shared


def by_task(networks: Networks, tiles: Sequence[Tile], maps: Maps) -> list[Tile | None]:
    """The tiles under their tasks' columns, None where a network lacks one."""
    there = dict(zip(maps, tiles))
    return [there.get(task) for task in networks.tasks]
