"""How the Triton kernels are cut, and the cell of four pixels that serves a sample.

A sample at pixel coordinate x lies in the cell of columns c and c + 1, and a column weighs as the
hat max(0, 1 - |x - column|). With c kept in [0, W - 2] the same two columns serve samples outside
the map: their hats are zero there (border "zeros"), unless x was moved to the edge first ("clamp").
So every pixel that is read exists, and no load needs a mask.
"""

from dataclasses import dataclass

import triton
import triton.language as tl

NARROWEST = 8  # channels: 16 bytes of a half type
MOST_QUERIES = 64
VECTOR_ATOMICS = 90  # architecture from which four numbers are added at once


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What one launch of a kernel does."""

    first: int  # channel
    block: int  # channels
    tall: int  # queries of a tile, down
    wide: int  # queries of a tile, across
    warps: int


def blocks(channels: int) -> list[tuple[int, int]]:
    """(first, count) of the powers of two that hold the channels, at most two: 70 is 64 and 8."""
    largest = max(NARROWEST, 1 << max(channels, 1).bit_length() - 1)
    if largest >= channels:
        return [(0, largest)]
    rest = max(NARROWEST, 1 << (channels - largest - 1).bit_length())
    return [(0, largest), (largest, rest)]


def pitch(channels: int) -> int:
    """Numbers from one padded row to the next."""
    first, count = blocks(channels)[-1]
    return first + count


def cuts(kernel: str, channels: int, bytes_each: int, architecture: int) -> list[Cut]:
    """The launches of a kernel: `forward`, `differentiate` or `scatter`.

    Chosen so that the compiler spills no register and exchanges little through shared memory.
    bytes_each: of a number of the value; architecture: 80 for compute capability 8.0.
    """
    numbers = {"forward": 4096, "differentiate": 2048, "scatter": 2048}[kernel]
    if kernel == "scatter" and architecture < VECTOR_ATOMICS:
        numbers = 512
    made = []
    for first, block in blocks(channels):
        queries = max(1, min(MOST_QUERIES, numbers // block))
        wide = min(8, queries) if queries >= 32 else min(4, queries)
        heavy = kernel != "scatter" and bytes_each > 2 and block >= 64
        tall = queries // wide
        made.append(Cut(first=first, block=block, tall=tall, wide=wide, warps=8 if heavy else 4))
    return made


def tiles(cut: Cut, height: int, width: int, queries: int) -> int:
    """How many tiles cover the queries."""
    return queries // (height * width) * -(-height // cut.tall) * -(-width // cut.wide)


ALL: tl.constexpr = tl.constexpr(tl.PropagateNan.ALL)


@triton.jit
def tile_queries(tile, height, width, TALL: tl.constexpr, WIDE: tl.constexpr):
    """The queries of a tile of TALL x WIDE neighbours, and which of them exist (others are 0).

    Queries are taken to be copies of a raster of height x width; nothing but speed depends on it.
    """
    across = tl.cdiv(width, WIDE)
    per_copy = across * tl.cdiv(height, TALL)
    copy, place = tile // per_copy, tile % per_copy
    i = tl.arange(0, TALL * WIDE)
    row = place // across * TALL + i // WIDE
    column = place % across * WIDE + i % WIDE
    exists = (row < height) & (column < width)
    return tl.where(exists, (copy * height + row) * width + column, 0), exists


@triton.jit
def limits(size, CLAMP: tl.constexpr):
    """The coordinates that samples are moved between: the edge pixels, or where weights vanish."""
    if CLAMP:
        low, high = 0.0, size.to(tl.float32) - 1
    else:
        low, high = -1.0, size.to(tl.float32)
    return low, high


@triton.jit
def cell_of(x, size, CLAMP: tl.constexpr):
    """The lower pixel of the cell that serves x, and the distance of x from it (may be NaN)."""
    low, high = limits(size, CLAMP)
    x = tl.minimum(tl.maximum(x, low, ALL), high, ALL)
    pixel = tl.maximum(tl.minimum(x.to(tl.int32), size - 2), 0)  # NaN, as a number, may be any
    return pixel, x - pixel.to(tl.float32)


@triton.jit
def hats(u, size, CLAMP: tl.constexpr):
    """The weights of the pixels at distance u and u - 1; a map of one pixel has no second."""
    if CLAMP:
        first, second = 1 - u, u
    else:
        first = tl.maximum(1 - tl.abs(u), 0.0, ALL)
        second = tl.maximum(1 - tl.abs(u - 1), 0.0, ALL)
        second = tl.where(size > 1, second, 0.0)
    return first, second


@triton.jit
def slopes(x, u, size, CLAMP: tl.constexpr):
    """The derivatives of `hats` by x, to the right where they have kinks; 0 where x was moved."""
    low, high = limits(size, CLAMP)
    inside = (x >= low) & (x < high)
    if CLAMP:
        first, second = tl.where(inside, -1.0, 0.0), tl.where(inside, 1.0, 0.0)
    else:
        first = tl.where(u < 0, 1.0, tl.where(u < 1, -1.0, 0.0))
        second = tl.where(u < 0, 0.0, tl.where(u < 1, 1.0, -1.0))
        first = tl.where(inside, first, 0.0)
        second = tl.where(inside & (size > 1), second, 0.0)
    return first, second
