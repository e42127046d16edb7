"""Which prediction pixels may be matched to which ground-truth pixels: those close enough."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlcli.boundary.kernel import kernel
from mtlcli.boundary.planes import Index

UNIT = 100  # costs are hundredths of a pixel, as in the BSDS benchmark


class Partners(NamedTuple):
    """The allowed partners of one side: pixel i has partner[start[i] : start[i + 1]]."""

    start: Index  # (n + 1,)
    partner: NDArray[np.int32]  # (pairs,) number of the partner, nearest first
    cost: NDArray[np.int32]  # (pairs,) distance in 1/100 px, rounded


def candidate_pairs(
    pixels: Index, truth: Index, shape: tuple[int, int], radius: float
) -> tuple[Partners, Partners]:
    """All pairs at Euclidean distance <= radius (compared as du^2 + dv^2 <= radius^2, float64).

    Args:
        pixels: (N,) prediction pixels as flat indices y * W + x.
        truth: (G,) ground-truth pixels, likewise.
        shape: (H, W).
        radius: px.

    Returns:
        The truth partners of the N pixels, and the pixel partners of the G truth pixels.
    """
    reach = int(np.ceil(radius))
    stride = shape[1] + 2 * reach
    numbers = np.full((shape[0] + 2 * reach) * stride, -1, np.int32)
    numbers[_padded(pixels, shape[1], reach)] = np.arange(len(pixels), dtype=np.int32)

    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    squared = dy * dy + dx * dx
    inside = squared <= radius * radius
    nearest_first = np.argsort(squared[inside], kind="stable")
    offsets = (dy * stride + dx)[inside][nearest_first]
    costs = np.rint(UNIT * np.sqrt(squared[inside][nearest_first])).astype(np.int32)
    return _pair(numbers, len(pixels), _padded(truth, shape[1], reach), offsets, costs)


def _padded(flat: Index, width: int, reach: int) -> Index:
    """Flat indices in the image as flat indices in the image with `reach` px around it."""
    return (flat // width + reach) * (width + 2 * reach) + flat % width + reach


@kernel
def _pair(
    numbers: NDArray[np.int32], count: int, truth: Index, offsets: Index, costs: NDArray[np.int32]
) -> tuple[Partners, Partners]:
    start = np.zeros(count + 1, np.int64)
    truth_start = np.zeros(len(truth) + 1, np.int64)
    for g in range(len(truth)):
        for offset in offsets:
            pixel = numbers[truth[g] + offset]
            if pixel >= 0:
                start[pixel + 1] += 1
                truth_start[g + 1] += 1
    start, truth_start = np.cumsum(start), np.cumsum(truth_start)

    fill, truth_fill = start.copy(), truth_start.copy()
    partner, cost = np.empty(start[-1], np.int32), np.empty(start[-1], np.int32)
    truth_partner, truth_cost = np.empty_like(partner), np.empty_like(cost)
    for i in range(len(offsets)):  # offsets outermost, so that every row comes out nearest first
        for g in range(len(truth)):
            pixel = numbers[truth[g] + offsets[i]]
            if pixel >= 0:
                partner[fill[pixel]], cost[fill[pixel]] = g, costs[i]
                fill[pixel] += 1
                truth_partner[truth_fill[g]], truth_cost[truth_fill[g]] = pixel, costs[i]
                truth_fill[g] += 1
    return Partners(start, partner, cost), Partners(truth_start, truth_partner, truth_cost)
