"""What a network sees, laid over the picture: colours of the classes, lines of the boundaries."""

from collections.abc import Iterable, Mapping

import numpy as np

from mtlcli.errors import InputError
from mtlcli.maps import boundaries
from mtlcli.maps._map import Options
from mtlcli.runs.checkpoint import Trained

OPACITY = 0.5  # of the colours of classes
LINE = 255  # grey of a certain boundary
EMPTY = "background"  # class that is not coloured


def overlay(trained: Trained, image: np.ndarray, maps: Mapping[str, np.ndarray]) -> np.ndarray:
    """The picture half covered by the colours of its classes (semseg, else the first task with
    classes), with boundaries in white, as opaque as they are probable.

    Args:
        trained: the network.
        image: RGB (H, W, 3) uint8.
        maps: as `mtlcli.drawing.prediction.predict` returns them.

    Returns:
        RGB (H, W, 3) uint8.

    Raises:
        InputError: none of the maps is of classes or boundaries.
    """
    kinds = {name: trained.tasks[name].map for name in maps}
    coloured = sorted((n for n, its in kinds.items() if its.has_classes), key="semseg".__ne__)
    lined = [n for n, its in kinds.items() if its.usual == boundaries.MAP.usual]
    if not coloured and not lined:
        raise InputError(
            f"{trained.path} predicts {', '.join(maps)}: neither classes nor boundaries to lay "
            "over the picture."
        )
    picture = image.astype(np.float32)
    for name in coloured[:1]:
        options = trained.dataset.drawing(name)
        colours = kinds[name].draw(maps[name], options)
        picture += OPACITY * covered(maps[name], options)[..., None] * (colours - picture)
    for name in lined[:1]:
        picture += maps[name][0][..., None] * (LINE - picture)
    return np.asarray(picture.round().astype(np.uint8))


def can_overlay(trained: Trained, maps: Iterable[str]) -> bool:
    """Whether some of these maps are of classes or boundaries."""
    kinds = [trained.tasks[name].map for name in maps]
    return any(its.has_classes or its.usual == boundaries.MAP.usual for its in kinds)


def covered(labels: np.ndarray, options: Options) -> np.ndarray:
    """(H, W) bool: where a class is that is more than background."""
    empty = [i for i, name in enumerate(options["names"]) if name == EMPTY]
    return ~np.isin(labels, empty)
