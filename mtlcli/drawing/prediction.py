"""What a network says of one picture: named maps, and how they are drawn."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mtlcli import lookup
from mtlcli.drawing.grid import Tile, draw_grid, tile_of
from mtlcli.errors import InputError
from mtlcli.runs.checkpoint import Trained

Maps = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction(Mapping[str, np.ndarray]):
    """The maps of one picture by the names of their tasks, all at the picture's height and width.

    semseg, human_parts: (H, W) uint8, index into `classes[task]`
    depth:               (H, W) float32, metres along the optical axis
    normals:             (H, W, 3) float32, unit vectors pointing away from the camera in its frame
                         (x right, y down, z forward): a wall straight ahead is (0, 0, 1)
    edge, sal:           (H, W) float32, probability
    """

    image: np.ndarray  # RGB (H, W, 3) uint8
    maps: Maps  # as `mtlcli.drawing.predict.predict` returns them
    trained: Trained

    def __getitem__(self, task: str) -> np.ndarray:
        if task not in self.maps:
            raise KeyError(lacking(task, self.maps))
        return channels_last(self.maps[task])

    def __iter__(self) -> Iterator[str]:
        return iter(self.maps)

    def __len__(self) -> int:
        return len(self.maps)

    def __repr__(self) -> str:
        listed = ", ".join(f"{n} {m.shape} {m.dtype}" for n, m in self.items())
        return f"Prediction({listed})"

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes of the tasks that have some."""
        return {n: tuple(c) for n, c in self.trained.dataset.classes.items() if n in self.maps}

    def grid(self) -> Image.Image:
        """The picture and all maps in one, each with the key to its colours."""
        return Image.fromarray(grid(self.trained, self.image, self.maps))


def channels_last(prediction: np.ndarray) -> np.ndarray:
    """(H, W) of a class map or a single channel, (H, W, C) of several."""
    if prediction.ndim == 2:
        return prediction
    return prediction[0] if len(prediction) == 1 else prediction.transpose(1, 2, 0)


def grid(trained: Trained, image: np.ndarray, maps: Maps) -> np.ndarray:
    """Image and predictions as one picture, RGB (H', W', 3) uint8.

    Args:
        trained: the network.
        image: RGB (H, W, 3) uint8.
        maps: all or some of what `mtlcli.drawing.predict.predict` returns.
    """
    return draw_grid([Tile(title="Image", picture=image), *tiles_of(trained, maps)])


def tiles_of(
    trained: Trained,
    maps: Maps,
    shared: Mapping[str, Mapping[str, Any]] | None = None,
    keyed: bool = True,
) -> list[Tile]:
    """A tile for each map; `shared` holds options by task, `keyed` says whether keys are made."""
    tasks, shared = trained.tasks, shared or {}
    return [
        tile_of(
            tasks[name],
            values,
            {**trained.dataset.drawing(name), **shared.get(name, {})},
            keyed,
        )
        for name, values in maps.items()
    ]


def chosen(trained: Trained, wanted: Sequence[str]) -> tuple[str, ...]:
    """The tasks to show: those wanted, or all of the network.

    Raises:
        InputError: the network does not predict one of them.
    """
    for task in wanted:
        if task not in trained.tasks:
            raise InputError(f"{trained.path}: {lacking(task, trained.tasks)}")
    return tuple(wanted) or tuple(trained.tasks)


def lacking(task: str, known: Mapping[str, Any]) -> str:
    """What to say of a task that a network does not have."""
    hint = lookup.suggest(task, known)
    return f"this network does not predict '{task}'.{hint} It predicts {', '.join(known)}."
