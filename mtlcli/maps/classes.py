"""Classes: the index of one named class at every pixel, 255 where there is no label."""

from collections.abc import Sequence

import numpy as np

from mtlcli.maps import _decode
from mtlcli.maps._colours import NO_LABEL, RGB, blacken, plain, voc_palette
from mtlcli.maps._map import IGNORE, NO_OPTIONS, ErrorMap, Map, Options, Swatches

RIGHT: RGB = (205, 210, 214)
WRONG: RGB = (213, 62, 62)
SPOKEN = {
    "refridgerator": "refrigerator",
    "otherstructure": "other structure",
    "otherfurniture": "other furniture",
    "otherprop": "other object",
    "uarm": "upper arm",
    "larm": "lower arm",
    "uleg": "upper leg",
    "lleg": "lower leg",
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "tvmonitor": "TV or monitor",
}
"""Names of classes as datasets have them -> as people say them, in what is looked at; files and
records keep the dataset's."""
SPECK = 0.0005  # share of the picture below which a class is not named


def read(data: bytes, name: str, options: Options) -> np.ndarray:
    """A PNG of indices, its palette left aside, as (H, W) uint8."""
    return _decode.require_range(_decode.indices(data), 0, 255, "class").astype(np.uint8)


def problem(stored: np.ndarray, classes: int, options: Options) -> str:
    """Why a stored map cannot be: an index beyond the classes."""
    wrong = np.flatnonzero(np.bincount(stored.ravel(), minlength=256)[classes:IGNORE])
    if not classes or not len(wrong):
        return ""
    return f"has value {wrong[0] + classes}, outside 0 .. {classes - 1} (and {IGNORE} = ignored)"


def labelled(stored: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels with a class."""
    return np.asarray(stored != IGNORE)


def target(stored: np.ndarray) -> np.ndarray:
    """Indices are stored as the loss wants them."""
    return stored


def constant(targets: Sequence[np.ndarray], channels: int) -> np.ndarray:
    """Logarithm of each class's share of the labelled pixels: its largest entry is the majority
    class.
    """
    counts = sum(
        np.bincount(t[t != IGNORE].ravel(), minlength=channels)[:channels] for t in targets
    )
    share = np.maximum(np.asarray(counts, dtype=np.float64), 1e-3)
    return np.asarray(np.log(share / share.sum()))


def encode(classes: np.ndarray, options: Options = NO_OPTIONS) -> np.ndarray:
    """(H, W) uint8 indices, as they are."""
    return classes


def colour_table(options: Options) -> np.ndarray:
    """The colours of options["palette"] (VOC's if there is none) by index, 255 black."""
    palette: Sequence[Sequence[int]] = options.get("palette") or voc_palette(IGNORE)
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = np.asarray(palette, np.uint8)
    table[IGNORE] = NO_LABEL
    return table


def draw(classes: np.ndarray, options: Options) -> np.ndarray:
    """Each pixel in its class's colour."""
    return np.take(colour_table(options), classes, axis=0)


def key(classes: np.ndarray, options: Options) -> Swatches:
    """The classes in sight by options["names"], the most frequent first; 255 is "no label"."""
    names: Sequence[str] = options.get("names", ())
    palette = options.get("palette") or voc_palette(len(names))
    known = {i: (spell(name), plain(palette[i])) for i, name in enumerate(names)}
    known[IGNORE] = ("no label", NO_LABEL)
    counts = np.bincount(classes.ravel(), minlength=256)
    seen = [i for i in np.argsort(-counts, kind="stable") if counts[i] > SPECK * classes.size]
    return Swatches(entries=[known[i] for i in seen if i in known])


def spell(name: str) -> str:
    """A class's name as a person says it."""
    return SPOKEN.get(name, name)


def error(prediction: np.ndarray, target: np.ndarray, options: Options) -> ErrorMap:
    """Which pixels have the wrong class."""
    known, right = np.asarray(target != IGNORE), np.asarray(prediction == target)
    picture = np.where(right[..., None], np.array(RIGHT, np.uint8), np.array(WRONG, np.uint8))
    share = right[known].mean() if known.any() else np.nan
    missing = [] if known.all() else [("no label", NO_LABEL)]
    return ErrorMap(
        picture=blacken(picture, known),
        key=Swatches(entries=[("right", RIGHT), ("wrong", WRONG), *missing]),
        summary=f"{share:.0%} of pixels right",
    )


MAP = Map(
    usual=("semseg",),
    stored=np.uint8,
    unlabelled=IGNORE,
    has_classes=True,
    pointed="class",
    read=read,
    problem=problem,
    labelled=labelled,
    target=target,
    constant=constant,
    encode=encode,
    colour_table=colour_table,
    draw=draw,
    key=key,
    error=error,
)
