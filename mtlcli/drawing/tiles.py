"""What stands on the sheet of one picture: it, its maps, and the overlay where there is room."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtlcli.data.images import to_resolution
from mtlcli.drawing.grid import Tile, in_columns, tile_of
from mtlcli.drawing.overlay import can_overlay, overlay
from mtlcli.runs.checkpoint import Trained


def sheet_tiles(
    trained: Trained,
    image: np.ndarray,
    maps: Mapping[str, np.ndarray],
    shared: Mapping[str, Mapping[str, Any]] | None = None,
    keyed: bool = True,
) -> list[Tile]:
    """The picture and its maps, and the overlay of them where the sheet would have a hole.

    Args:
        trained: the network.
        image: RGB (H, W, 3) uint8.
        maps: those to show, at one size, which need not be the picture's.
        shared: see `tiles_of`.
        keyed: see `tiles_of`.
    """
    tiles = [image_tile(image, trained), *tiles_of(trained, maps, shared, keyed)]
    rows = in_columns(tiles)
    if len(rows[-1]) < len(rows[0]) and can_overlay(trained, maps):
        shape = next(iter(maps.values())).shape[-2:]
        fitting = to_resolution(image, (shape[0] / image.shape[0], shape[1] / image.shape[1]))
        tiles.append(Tile(title="Overlay", picture=overlay(trained, fitting, maps)))
    return tiles


def image_tile(image: np.ndarray, *networks: Trained) -> Tile:
    """The picture itself, and what the networks that look at it know."""
    known = dict.fromkeys(trained.scenes for trained in networks if trained.scenes)
    note = f"The network has seen {' and '.join(known)} only." if known else ""
    return Tile(title="Image", picture=image, note=note)


def tiles_of(
    trained: Trained,
    maps: Mapping[str, np.ndarray],
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
