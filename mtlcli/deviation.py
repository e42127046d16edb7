"""Where a prediction departs from its label, as a picture; one function per kind of map.

Each takes a prediction and a target of the same form (see `mtlcli.tasks._task`) and what is known
of the dataset. Pixels without a label are black.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mtlcli import boundary, colors
from mtlcli.colors import IGNORE, NO_LABEL
from mtlcli.keys import Key, Scale, Swatches

Options = Mapping[str, Any]

RIGHT = (205, 210, 214)
WRONG = (213, 62, 62)
HIT, MISSED, FALSE = (40, 40, 40), (30, 120, 220), (230, 80, 40)
PAPER = (255, 255, 255)
FARTHEST_OFF = 1.0  # metres, the end of the scale
WIDEST_ANGLE = 60.0  # degrees, the end of the scale


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """An error map."""

    picture: np.ndarray  # RGB (H, W, 3) uint8
    key: Key
    summary: str  # the error in one number, of this picture alone


def of_classes(prediction: np.ndarray, target: np.ndarray, options: Options) -> Deviation:
    """Which pixels have the wrong class."""
    known, right = np.asarray(target != IGNORE), np.asarray(prediction == target)
    picture = np.where(right[..., None], np.array(RIGHT, np.uint8), np.array(WRONG, np.uint8))
    share = right[known].mean() if known.any() else np.nan
    missing = [] if known.all() else [("no label", NO_LABEL)]
    return Deviation(
        picture=blackened(picture, known),
        key=Swatches(entries=[("right", RIGHT), ("wrong", WRONG), *missing]),
        summary=f"{share:.0%} of pixels right",
    )


def of_depth(prediction: np.ndarray, target: np.ndarray, options: Options) -> Deviation:
    """Metres between prediction and label."""
    known = target[0] > 0
    off = np.abs(prediction[0] - target[0])
    error = np.sqrt(np.square(off[known]).mean()) if known.any() else np.nan
    scale = Scale(colours=colors.inferno(), low="0 m", high=f"{FARTHEST_OFF:g} m or more off")
    return Deviation(
        picture=blackened(heat(off / FARTHEST_OFF), known), key=scale, summary=f"RMSE {error:.2f} m"
    )


def of_normals(prediction: np.ndarray, target: np.ndarray, options: Options) -> Deviation:
    """Degrees between prediction and label."""
    known = np.asarray(target.any(axis=0))
    cosine = (prediction * target).sum(axis=0) / np.maximum(
        np.linalg.norm(prediction, axis=0) * np.linalg.norm(target, axis=0), 1e-12
    )
    angle = np.degrees(np.arccos(cosine.clip(-1, 1)))
    error = angle[known].mean() if known.any() else np.nan
    scale = Scale(colours=colors.inferno(), low="0°", high=f"{WIDEST_ANGLE:g}° or more off")
    return Deviation(
        picture=blackened(heat(angle / WIDEST_ANGLE), known),
        key=scale,
        summary=f"mean error {error:.1f}°",
    )


def of_probability(prediction: np.ndarray, target: np.ndarray, options: Options) -> Deviation:
    """How far the probability is from the label, 0 or 1."""
    label = target if target.ndim == 2 else target[0]
    known = label != IGNORE
    off = np.abs(prediction[0] - label)
    error = off[known].mean() if known.any() else np.nan
    return Deviation(
        picture=blackened(heat(off), known),
        key=Scale(colours=colors.inferno(), low="0", high="1 off"),
        summary=f"mean error {error:.2f}",
    )


def of_boundaries(prediction: np.ndarray, target: np.ndarray, options: Options) -> Deviation:
    """Boundaries found, missed and invented, at the threshold that is best for this picture.

    The threshold and its F are those of the exact matching; the colours take as found what lies
    within the tolerance of the other.
    """
    truth = target[0] > 0
    threshold, f, found = best_boundaries(boundary.quantise(prediction[0]), truth, options)
    reach = tolerance(options) * float(np.hypot(*truth.shape))
    picture = np.full((*truth.shape, 3), PAPER, np.uint8)
    for pixels, others, alone in ((truth, found, MISSED), (found, truth, FALSE)):
        close = distance_to(others) <= reach
        picture[thick(pixels & ~close)] = alone
        picture[thick(pixels & close)] = HIT
    return Deviation(
        picture=picture,
        key=Swatches(entries=[("found", HIT), ("missed", MISSED), ("not there", FALSE)]),
        summary=f"F {f:.2f} at threshold {threshold:.2f}",
    )


def best_boundaries(
    codes: np.ndarray, truth: np.ndarray, options: Options
) -> tuple[float, float, np.ndarray]:
    """The threshold of the highest F, that F, and the pixels (H, W) bool that are claimed there."""
    from mtlcli.boundary.nms import suppress

    protocol = boundary.protocol_named(options.get("protocol", "seism"))
    counts = boundary.image_counts(
        codes, truth.astype(np.uint8), protocol, gt_as="boundary", max_dist=tolerance(options)
    )
    precision = counts.cntP / np.maximum(counts.sumP, 1)
    recall = counts.cntR / np.maximum(counts.sumR, 1)
    f = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f.argmax())
    soft = suppress(codes) if protocol.suppress else codes / np.float32(255)
    return protocol.thresholds[best], float(f[best]), soft > protocol.thresholds[best]


def tolerance(options: Options) -> float:
    """Share of the diagonal within which a boundary counts as found."""
    protocol = boundary.protocol_named(options.get("protocol", "seism"))
    return options.get("max_dist") or protocol.max_dist


def distance_to(pixels: np.ndarray) -> np.ndarray:
    """(H, W) float32: pixels to the nearest that is set; infinite where none is."""
    if not pixels.any():
        return np.full(pixels.shape, np.inf, np.float32)
    return cv2.distanceTransform((~pixels).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def thick(pixels: np.ndarray) -> np.ndarray:
    """Lines three pixels wide, which a smaller picture still shows."""
    return cv2.dilate(pixels.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)


def heat(share: np.ndarray) -> np.ndarray:
    """(H, W) in [0, 1] and beyond as RGB from dark to bright."""
    return colors.inferno()[(np.nan_to_num(share, nan=1.0).clip(0, 1) * 255).astype(np.uint8)]


def blackened(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Pixels without a label in black."""
    return np.where(known[..., None], picture, np.array(NO_LABEL, np.uint8))
