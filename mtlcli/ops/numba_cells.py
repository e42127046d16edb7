"""Where the samples of a block of queries fall on a map, for the numba kernels; all in float32.

A sample at pixel coordinate x lies in the cell of columns c and c + 1, and a column weighs as the
hat max(0, 1 - |x - column|). With c kept in [0, W - 2] the same two columns serve samples outside
the map: their hats are zero there (border "zeros"), unless x was moved to the edge first ("clamp").
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from mtlcli.ops.numba_lanes import peek, power_of_two

# All of LLVM's freedoms but the assumption that numbers are finite.
OPTIONS: dict[str, Any] = {
    "fastmath": {"contract", "reassoc", "nsz", "arcp", "afn"},
    "error_model": "numpy",
    "nogil": True,
}
MOST = 1024  # samples of a block of queries on one map
TILE = 8  # pixels of the largest map along a side of the tiles that order the queries
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
LOG2_E, LN_2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
LOWEST_POWER = np.float32(-87)  # its exponential is about the smallest normal number
INVERSE_FACTORIALS = tuple(np.float32(1 / f) for f in (720, 120, 24, 6, 2))


class Problem(NamedTuple):
    """What a kernel is told besides the numbers it reads and writes."""

    maps: np.ndarray  # int64 (L, 3): height, width, first row of the value
    reference: np.ndarray  # float32 (N, 2): x, y in [0, 1]
    order: np.ndarray  # int64 (N,): queries, neighbours one after the other
    block: int  # queries that walk the maps together; block * points <= MOST
    rows: int  # rows of the value, all maps together
    heads: int
    points: int
    channels: int  # of one head
    clamp: bool  # border: the edge pixel repeats, or zeros
    vectors: tuple[int, ...]  # one item for each 16 channels of a padded row
    edition: np.ndarray  # see `numba_launch.edition`


class Rows(NamedTuple):
    """A tensor (B, N, ...) as flat numbers: only what belongs to one query must be contiguous."""

    numbers: np.ndarray  # float32, or bfloat16 as int16
    per_image: int  # stride
    per_query: int  # stride


class Samples(NamedTuple):
    """The samples of a block of queries on one map, query by query."""

    planes: np.ndarray  # float32: x, y in pixels, attention, then the weights of the four pixels
    cells: np.ndarray  # int32: the upper left of the four pixels


# Where planes begin. Planes of one array, at distances known to LLVM, let it make vectors of loops:
# for separate arrays it would have to compare too many addresses first, and gives up.
X, Y, ATTENTION, UPPER_LEFT, UPPER_RIGHT, LOWER_LEFT, LOWER_RIGHT = range(0, 7 * MOST, MOST)


@njit(**OPTIONS)
def room_for_samples():
    """Uninitialised `Samples`."""
    return Samples(np.empty(7 * MOST, np.float32), np.empty(MOST, np.int32))


@njit(**OPTIONS)
def exp_of_negative(x):
    """exp(x) for x <= 0 to 3e-7, and 0 below -87: unlike math.exp, LLVM makes vectors of it."""
    bounded = x if x > LOWEST_POWER else LOWEST_POWER
    power = np.int32(bounded * LOG2_E - HALF)
    rest = bounded - np.float32(power) * LN_2
    a, b, c, d, e = INVERSE_FACTORIALS
    series = ((((a * rest + b) * rest + c) * rest + d) * rest + e) * rest + ONE
    result = (series * rest + ONE) * power_of_two(power)
    result = result if x > LOWEST_POWER else ZERO
    return result if x == x else x


@njit(**OPTIONS)
def hat(x):
    """The bilinear weight of a pixel at distance x."""
    height = ONE - abs(x)
    return ZERO if height < ZERO else height


@njit(**OPTIONS)
def hat_slope(x):
    """The derivative of `hat`, to the right where it has a kink."""
    slope = ONE if x < ZERO else -ONE
    return slope if (x >= -ONE) and (x < ONE) else ZERO


@njit(**OPTIONS)
def limits(size, clamp):
    """The coordinates that samples are moved between: the edge pixels, or where weights vanish."""
    return (ZERO, np.float32(size - 1)) if clamp else (-ONE, np.float32(size))


@njit(**OPTIONS)
def cell_of(x, low, high, size):
    """The lower pixel of the cell that serves x, and the distance of x from it (may be NaN)."""
    x = low if x < low else x
    x = high if x > high else x
    number = x if x == x else low
    pixel = min(np.int32(number), np.int32(size - 2))
    pixel = max(pixel, np.int32(0))
    return pixel, x - np.float32(pixel)


@njit(**OPTIONS)
def locate(problem, offsets, image, head, level, members, samples):
    """Fill in x and y for the queries `members`."""
    points, levels, planes = problem.points, len(problem.maps), samples.planes
    height, width = np.float32(problem.maps[level, 0]), np.float32(problem.maps[level, 1])
    for i in range(len(members)):
        query, first = members[i], i * points
        start = image * offsets.per_image + query * offsets.per_query
        start += 2 * (head * levels + level) * points
        x = problem.reference[query, 0] * width - HALF
        y = problem.reference[query, 1] * height - HALF
        for j in range(points):
            planes[X + first + j] = x + peek(offsets.numbers, start + 2 * j)
            planes[Y + first + j] = y + peek(offsets.numbers, start + 2 * j + 1)


@njit(**OPTIONS)
def place(samples, count, height, width, clamp):
    """Fill in cells and weights; where x or y is NaN, NaN weights at a cell of the map."""
    low_x, high_x = limits(width, clamp)
    low_y, high_y = limits(height, clamp)
    right_exists = ONE if width > 1 else ZERO
    lower_exists = ONE if height > 1 else ZERO
    planes = samples.planes
    for i in range(count):
        column, u = cell_of(planes[X + i], low_x, high_x, width)
        row, v = cell_of(planes[Y + i], low_y, high_y, height)
        left, right = hat(u), hat(u - ONE) * right_exists
        upper = hat(v) * planes[ATTENTION + i]
        lower = hat(v - ONE) * lower_exists * planes[ATTENTION + i]
        samples.cells[i] = row * np.int32(width) + column
        planes[UPPER_LEFT + i], planes[UPPER_RIGHT + i] = left * upper, right * upper
        planes[LOWER_LEFT + i], planes[LOWER_RIGHT + i] = left * lower, right * lower


def tile_order(reference, columns, rows):
    """The queries sorted by the tile of a rows x columns grid they lie in, ties in their order.

    reference: float32 (N, 2), x and y in [0, 1]. Returns int64 (N,).
    """
    tiles = np.empty(len(reference), np.int64)
    starts = np.zeros(columns * rows + 1, np.int64)
    for i in range(len(reference)):
        column, _ = cell_of(reference[i, 0] * columns, ZERO, np.float32(columns), columns + 1)
        row, _ = cell_of(reference[i, 1] * rows, ZERO, np.float32(rows), rows + 1)
        tiles[i] = row * columns + column
        starts[tiles[i] + 1] += 1
    starts = np.cumsum(starts)
    order = np.empty(len(reference), np.int64)
    for i in range(len(reference)):
        order[starts[tiles[i]]] = i
        starts[tiles[i]] += 1
    return order
