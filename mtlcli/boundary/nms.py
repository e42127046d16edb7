"""seism's non-maximum suppression of a boundary map: thin ridges out of a soft prediction.

Every step is kept in float32 and in the order of the original (Dollar's triangle filter by
running sums, then `gradient2` and `edgesNms`), so that the suppressed values, and with them the
map of every threshold, are the original's bit for bit.
"""

import math

import numpy as np
from numpy.typing import NDArray

from mtlcli.boundary.kernel import kernel

Map = NDArray[np.float32]

RADIUS = 4  # of the triangle filter, px
STRENGTH = np.float32(1.01)  # a pixel survives if this factor lifts it to both its neighbours
BORDER = 5  # width of the damped image border, px


def suppress(prediction: NDArray[np.uint8]) -> Map:
    """Non-maximum suppression as in seism's `read_one_cont_png` and the InvPT / ATRC evaluation.

    A pixel E is set to 0 where 1.01 * E is strictly below the bilinear value one pixel away
    across the ridge, on either side (ties survive). The 5 pixels next to the image border are
    then damped linearly, the outermost to 0.

    Args:
        prediction: (H, W) uint8, 255 times the probability.

    Returns:
        (H, W) float32 in [0, 1].
    """
    edge = prediction.astype(np.float32) / np.float32(255)
    across = ridge_normal(smooth(edge))
    return damp_border(_keep_ridges(edge, across, STRENGTH))


def ridge_normal(smoothed: Map) -> Map:
    """Direction across the ridge of (H, W) float32: radians in [0, pi), x to the right, y down."""
    dx, dy = _slope(smoothed, 1), _slope(smoothed, 0)
    dxx, dxy, dyy = _slope(dx, 1), _slope(dy, 1), _slope(dy, 0)
    tangent = dyy * np.sign(-dxy) / (dxx + np.float32(1e-5))
    return np.mod(np.arctan(tangent), np.float32(np.pi))


def _slope(image: Map, axis: int) -> Map:
    """Central differences, one-sided at the border; 0 along an axis of a single pixel."""
    return np.gradient(image, axis=axis) if image.shape[axis] > 1 else np.zeros_like(image)


def smooth(image: Map) -> Map:
    """(H, W) float32 through the separable triangle filter [1 2 3 4 5 4 3 2 1] / 25.

    The border pixel row is mirrored with the edge pixel repeated (MATLAB's `symmetric`). The
    filter is a running sum of a running sum of second differences, which fixes how it rounds;
    an image too small for that (9 px or less on a side) is convolved directly.
    """
    side = RADIUS + 1
    if min(image.shape) <= 2 * RADIUS + 1:
        return _convolve(_convolve(image).T).T
    scale = np.float32(1) / np.float32(side**4)
    rows = _running_triangle(image.T, scale).T
    return _running_triangle(rows, np.float32(1))


def _running_triangle(image: Map, scale: np.float32) -> Map:
    """The triangle filter down axis 0 by running sums, times `scale`; weights sum to (r+1)^2."""
    length, side = len(image), RADIUS + 1
    ramp = np.cumsum(image[:side], axis=0, dtype=np.float32)
    first = np.float32(2) * ramp.cumsum(axis=0, dtype=np.float32)[-1] - ramp[-1]

    centre = np.arange(1, length) - 1
    before, after = centre - side, centre + side
    before = np.where(before < 0, -1 - before, before)
    after = np.where(after >= length, 2 * length - 1 - after, after)
    bend = (image[before] + image[after]) + np.float32(-2) * image[centre]
    steps = scale * np.cumsum(bend, axis=0, dtype=np.float32)
    return np.cumsum(np.concatenate([(scale * first)[None], steps]), axis=0, dtype=np.float32)


def _convolve(image: Map) -> Map:
    """The triangle filter down axis 0, by definition."""
    weights = np.concatenate([np.arange(1, RADIUS + 2), np.arange(RADIUS, 0, -1)])
    padded = np.pad(image, [(RADIUS, RADIUS), (0, 0)], mode="symmetric")
    shifted = np.stack([padded[i : i + len(image)] for i in range(len(weights))])
    return (np.tensordot(weights, shifted, axes=1) / (RADIUS + 1) ** 2).astype(np.float32)


@kernel
def _keep_ridges(edge: Map, across: Map, strength: np.float32) -> Map:
    height, width = edge.shape
    kept = edge.copy()
    for y in range(height):
        for x in range(width):
            if edge[y, x] == 0:
                continue
            lifted = edge[y, x] * strength
            step_x = np.float32(math.cos(across[y, x]))
            step_y = np.float32(math.sin(across[y, x]))
            for side in (np.float32(-1), np.float32(1)):
                near = _bilinear(edge, np.float32(x) + side * step_x, np.float32(y) + side * step_y)
                if lifted < near:
                    kept[y, x] = 0
    return kept


@kernel
def _bilinear(image: Map, x: np.float32, y: np.float32) -> np.float32:
    """Value at (x, y), the point pulled into the image first (up to 1.001 px before its end)."""
    height, width = image.shape
    x = max(min(x, np.float32(width - 1.001)), np.float32(0))
    y = max(min(y, np.float32(height - 1.001)), np.float32(0))
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    fx, fy = x - np.float32(left), y - np.float32(top)
    gx, gy = np.float32(1) - fx, np.float32(1) - fy
    return (
        image[top, left] * gx * gy
        + image[top, right] * fx * gy
        + image[bottom, left] * gx * fy
        + image[bottom, right] * fx * fy
    )


def damp_border(image: Map) -> Map:
    """(H, W) float32 with columns, then rows, x < s and their mirrors times x / s."""
    height, width = image.shape
    size = min(BORDER, width // 2, height // 2)
    if size == 0:
        return image
    ramp = np.arange(size, dtype=np.float32) / np.float32(size)
    damped = image.copy()
    damped[:, :size] *= ramp
    damped[:, width - size :] *= ramp[::-1]
    damped[:size] *= ramp[:, None]
    damped[height - size :] *= ramp[::-1, None]
    return damped
