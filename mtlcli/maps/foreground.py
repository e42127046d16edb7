"""Foreground: whether a pixel belongs to what is looked for (1) or not (0), 255 without a label."""

import numpy as np

from mtlcli.maps import _decode, classes
from mtlcli.maps._colours import blacken, grey, heat, inferno
from mtlcli.maps._map import IGNORE, NO_OPTIONS, ErrorMap, Map, Options, Scale

CODED = "p = x / 255, rounded down"


def read(data: bytes, name: str, options: Options) -> np.ndarray:
    """A grey picture, white where the foreground is, as (H, W) uint8 of 0 and 1."""
    return _decode.white(data).astype(np.uint8)


def problem(stored: np.ndarray, count: int, options: Options) -> str:
    """Why a stored map cannot be: a value that is neither 0, 1 nor 255."""
    return classes.problem(stored, 2, options)


def encode(probability: np.ndarray, options: Options = NO_OPTIONS) -> np.ndarray:
    """(1, H, W) probabilities -> (H, W) uint8, trunc(255 p): what the boundary protocols score."""
    from mtlcli import boundary

    return boundary.quantise(probability[0])


def draw(probability: np.ndarray, options: Options) -> np.ndarray:
    """White where certain; labels (0, 1, 255 = none) and probabilities alike."""
    chance = probability[0] if probability.ndim == 3 else probability
    known = np.where(chance == IGNORE, 0, chance)
    return np.repeat((known * 255).astype(np.uint8)[..., None], 3, axis=2)


def key(probability: np.ndarray, options: Options) -> Scale:
    """Black is no, white is yes."""
    return Scale(colours=grey(), low="0", high="1")


def error(prediction: np.ndarray, target: np.ndarray, options: Options) -> ErrorMap:
    """How far the probability is from the label, 0 or 1."""
    label = target if target.ndim == 2 else target[0]
    known = label != IGNORE
    off = np.abs(prediction[0] - label)
    mean = off[known].mean() if known.any() else np.nan
    return ErrorMap(
        picture=blacken(heat(off), known),
        key=Scale(colours=inferno(), low="0", high="1 off"),
        summary=f"mean error {mean:.2f}",
    )


MAP = Map(
    usual=("sal",),
    stored=np.uint8,
    unlabelled=IGNORE,
    is_binary=True,
    pointed="share",
    read=read,
    problem=problem,
    labelled=classes.labelled,
    target=classes.target,
    constant=classes.constant,
    encode=encode,
    coded=CODED,
    draw=draw,
    key=key,
    error=error,
)
