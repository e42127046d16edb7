"""Directions: a unit vector at every pixel, as 8-bit codes n = 2x/255 - 1 or as float32; the code
(0, 0, 0), codes near the middle (127 or 128, the zero vector) and the zero vector are no label.

Surface normals are unit vectors that point away from the camera, in its frame: x right, y down,
z forward.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from mtlcli.maps import _decode
from mtlcli.maps._colours import NO_LABEL, blacken, heat, inferno
from mtlcli.maps._decode import through_table
from mtlcli.maps._map import NO_OPTIONS, Ball, ErrorMap, Map, Options, Scale

CODE_VALUES = np.tile((2 * np.arange(256) / 255 - 1).astype(np.float32), (3, 1))  # (3, 256)
SHORTEST = 0.5  # of the vector of a code; a shorter one is no direction
NEAR_NONE = (63, 63, 63), (192, 192, 192)  # codes outside have a longer vector
UNIT_TOLERANCE = 0.02  # of a vector's length
CODE_TOLERANCE = 0.25  # the same of codes
MANY = 0.4  # share of the vectors of a picture farther off; photographs have more, in grey too
ENOUGH = 0.1  # share of the pixels that have one, to judge the picture by them
WIDEST_ANGLE = 60.0  # degrees, the end of the scale of errors


def read(data: bytes, name: str, options: Options) -> np.ndarray:
    """A colour picture of codes as (H, W, 3) uint8, or a .npy of vectors as float32."""
    return _decode.numbers(data, 3) if name.endswith(".npy") else _decode.colour(data)


def problem(stored: np.ndarray, classes: int, options: Options) -> str:
    """Why a stored map cannot be: a vector that is not finite or of another length than 1 or 0; of
    codes, which rounding and JPEG move, where many vectors are far from length 1.
    """
    if stored.dtype == np.uint8:
        vectors = target(stored)
        known = vectors.any(axis=0)
        if known.mean() < ENOUGH:
            return ""
        length = np.sqrt(np.square(vectors[:, known]).sum(axis=0))
        wrong = np.mean(np.abs(length - 1) > CODE_TOLERANCE)
        said = "has codes of no directions: 2x/255 - 1 is far from length 1 at"
        return f"{said} {wrong:.0%} of its pixels" if wrong > MANY else ""
    if not np.isfinite(stored).all():
        return "has values that are not finite"
    length = np.sqrt(np.einsum("hwc,hwc->hw", stored, stored))
    off = length[(length > 0) & (np.abs(length - 1) > UNIT_TOLERANCE)]
    return f"has a vector of length {off[0]:.3f}, expected 1 or 0" if len(off) else ""


def labelled(stored: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels with a direction."""
    if stored.dtype != np.uint8:
        return np.asarray(stored.any(axis=-1))
    return ~unlabelled_codes(stored, through_table(stored, CODE_VALUES))


def unlabelled_codes(codes: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(H, W) bool: where codes (H, W, 3) are black or their vectors (3, H, W) too short."""
    none = cv2.inRange(codes, (0, 0, 0), (0, 0, 0)) > 0
    middle = cv2.inRange(codes, *NEAR_NONE) > 0
    if middle.any():
        none[middle] = np.square(vectors[:, middle]).sum(axis=0) < SHORTEST**2
    return none


def target(stored: np.ndarray) -> np.ndarray:
    """Stored (H, W, 3) codes or vectors -> (3, H, W) float32; the zero vector is "no label".

    Codes decode as n = 2x/255 - 1 (ATRC's and DeMT's PNG files); black and those of a vector
    shorter than `SHORTEST` are no label.
    """
    if stored.dtype != np.uint8:
        return np.ascontiguousarray(stored.transpose(2, 0, 1), dtype=np.float32)
    vectors = through_table(stored, CODE_VALUES)
    unlabelled = unlabelled_codes(stored, vectors)
    if unlabelled.any():
        np.copyto(vectors, 0, where=unlabelled)
    return vectors


def mirror(normals: np.ndarray) -> np.ndarray:
    """In a mirrored picture left and right change places, so x changes its sign."""
    normals[0] *= -1
    return normals


def constant(targets: Sequence[np.ndarray], channels: int) -> np.ndarray:
    """Mean of the directions."""
    return np.asarray(
        np.mean([t.reshape(3, -1).mean(axis=1, dtype=np.float64) for t in targets], axis=0)
    )


def encode(normals: np.ndarray, options: Options = NO_OPTIONS) -> np.ndarray:
    """(3, H, W) unit vectors -> (H, W, 3) uint8 codes x of n = 2x/255 - 1, rounded."""
    return np.asarray(
        ((normals.transpose(1, 2, 0) + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    )


def draw(normals: np.ndarray, options: Options) -> np.ndarray:
    """(n + 1) / 2 as RGB; the zero vector (no label) is black."""
    picture = encode(normals)
    known = normals.any(axis=0)
    if not known.all():
        picture[~known] = NO_LABEL
    return picture


def key(normals: np.ndarray, options: Options) -> Ball:
    """A ball: its top has the colour of floors, its middle that of a wall straight ahead."""
    return Ball(text="direction, as on a ball in view")


def draw_ball(diameter: int) -> tuple[np.ndarray, np.ndarray]:
    """A ball as the camera sees it, in the colours of its outward-from-the-camera normals.

    Returns:
        RGB (N, N, 3) uint8, and (N, N) float32: how much of each pixel the ball covers.
    """
    steps = (np.arange(diameter) + 0.5) / diameter * 2 - 1
    x, y = np.meshgrid(steps, steps)
    z = np.sqrt(np.clip(1 - x**2 - y**2, 0, None))
    normals = np.stack((-x, -y, z))  # what one sees faces the camera; labels point away from it
    normals /= np.linalg.norm(normals, axis=0)
    cover = ((1 - np.hypot(x, y)) * diameter / 2 + 0.5).clip(0, 1)
    return draw(normals.astype(np.float32), {}), cover.astype(np.float32)


def error(prediction: np.ndarray, target: np.ndarray, options: Options) -> ErrorMap:
    """Degrees between prediction and label."""
    known = np.asarray(target.any(axis=0))
    cosine = (prediction * target).sum(axis=0) / np.maximum(
        np.linalg.norm(prediction, axis=0) * np.linalg.norm(target, axis=0), 1e-12
    )
    angle = np.degrees(np.arccos(cosine.clip(-1, 1)))
    mean = angle[known].mean() if known.any() else np.nan
    return ErrorMap(
        picture=blacken(heat(angle / WIDEST_ANGLE), known),
        key=Scale(colours=inferno(), low="0°", high=f"{WIDEST_ANGLE:g}° or more off"),
        summary=f"mean error {mean:.1f}°",
    )


MAP = Map(
    usual=("normals",),
    stored=np.uint8,
    exact=np.float32,
    planes=3,
    unlabelled=0.0,
    pointed="direction",
    read=read,
    problem=problem,
    labelled=labelled,
    target=target,
    mirror=mirror,
    constant=constant,
    encode=encode,
    coded="n = 2 x / 255 - 1; red, green, blue are x (right), y (down), z (forward)",
    draw=draw,
    key=key,
    error=error,
)
