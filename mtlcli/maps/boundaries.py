"""Boundaries: lines between things, 255 on a line and 0 off it, compared by matching."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from mtlcli.maps import _decode, foreground
from mtlcli.maps._colours import RGB, grey
from mtlcli.maps._map import IGNORE, ErrorMap, Map, Options, Scale, Swatches

CODE_VALUES = (np.arange(256) / 255).astype(np.float32)
HIT: RGB = (40, 40, 40)
MISSED: RGB = (30, 120, 220)
FALSE: RGB = (230, 80, 40)
PAPER: RGB = (255, 255, 255)


def read(data: bytes, name: str, options: Options) -> np.ndarray:
    """A grey picture of white lines on black, as (H, W) uint8 of 0 and 255."""
    return np.asarray(np.where(_decode.white(data), np.uint8(255), np.uint8(0)))


def problem(stored: np.ndarray, classes: int, options: Options) -> str:
    """Every code is a strength of a boundary."""
    return ""


def labelled(stored: np.ndarray) -> np.ndarray:
    """(H, W) bool: all pixels."""
    return np.ones(stored.shape[:2], bool)


def target(stored: np.ndarray) -> np.ndarray:
    """(H, W) codes 0..255 -> (1, H, W) float32 in [0, 1]."""
    return cv2.LUT(stored, CODE_VALUES)[None]


def constant(targets: Sequence[np.ndarray], channels: int) -> np.ndarray:
    """Logit of the share of boundary pixels."""
    share = np.mean([t[t != IGNORE].mean(dtype=np.float64) for t in targets])
    return np.array([math.log(max(share, 1e-6) / max(1 - share, 1e-6))])


def draw(probability: np.ndarray, options: Options) -> np.ndarray:
    """Black lines on white, the way boundary maps are printed."""
    return 255 - foreground.draw(probability, options)


def key(probability: np.ndarray, options: Options) -> Scale:
    """White is no boundary, black a certain one."""
    return Scale(colours=grey()[::-1], low="0", high="1")


def error(prediction: np.ndarray, target: np.ndarray, options: Options) -> ErrorMap:
    """Boundaries found, missed and invented, at the threshold that is best for this picture.

    The threshold and its F are those of the exact matching; the colours take as found what lies
    within the tolerance of the other.
    """
    from mtlcli import boundary

    truth = target[0] > 0
    threshold, f, found = find_best(boundary.quantise(prediction[0]), truth, options)
    reach = tolerance(options) * float(np.hypot(*truth.shape))
    picture = np.full((*truth.shape, 3), PAPER, np.uint8)
    for pixels, others, alone in ((truth, found, MISSED), (found, truth, FALSE)):
        close = distance_to(others) <= reach
        picture[thicken(pixels & ~close)] = alone
        picture[thicken(pixels & close)] = HIT
    return ErrorMap(
        picture=picture,
        key=Swatches(entries=[("found", HIT), ("missed", MISSED), ("not there", FALSE)]),
        summary=f"F {f:.2f} at threshold {threshold:.2f}",
    )


def find_best(
    codes: np.ndarray, truth: np.ndarray, options: Options
) -> tuple[float, float, np.ndarray]:
    """The threshold of the highest F, that F, and the pixels (H, W) bool that are claimed there."""
    from mtlcli import boundary
    from mtlcli.boundary.counts import ranks

    protocol = boundary.protocol_named(options.get("protocol", "seism"))
    counts = boundary.image_counts(
        codes, truth.astype(np.uint8), protocol, gt_as="boundary", max_dist=tolerance(options)
    )
    precision = counts.cntP / np.maximum(counts.sumP, 1)
    recall = counts.cntR / np.maximum(counts.sumR, 1)
    f = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f.argmax())
    return protocol.thresholds[best], float(f[best]), ranks(codes, protocol) > best


def tolerance(options: Options) -> float:
    """Share of the diagonal within which a boundary counts as found."""
    from mtlcli import boundary

    protocol = boundary.protocol_named(options.get("protocol", "seism"))
    return options.get("max_dist") or protocol.max_dist


def distance_to(pixels: np.ndarray) -> np.ndarray:
    """(H, W) float32: pixels to the nearest that is set; infinite where none is."""
    if not pixels.any():
        return np.full(pixels.shape, np.inf, np.float32)
    return cv2.distanceTransform((~pixels).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def thicken(pixels: np.ndarray) -> np.ndarray:
    """Lines three pixels wide, which a smaller picture still shows."""
    return cv2.dilate(pixels.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)


MAP = Map(
    usual=("edge",),
    stored=np.uint8,
    unlabelled=float(IGNORE),
    is_binary=True,
    pointed="share",
    settings={"positive_weight": 0.8, "max_dist": 0.011, "protocol": "seism"},  # as on NYUD-v2
    read=read,
    problem=problem,
    labelled=labelled,
    target=target,
    constant=constant,
    encode=foreground.encode,
    coded=foreground.CODED,
    draw=draw,
    key=key,
    error=error,
)
