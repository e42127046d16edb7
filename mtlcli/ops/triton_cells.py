"""Which queries a Triton program serves, and the cell of four pixels that serves a sample.

A sample at pixel coordinate x lies in the cell of columns c and c + 1, and a column weighs as the
hat max(0, 1 - |x - column|). With c kept in [0, W - 2] the same two columns serve samples outside
the map: their hats are zero there (border "zeros"), unless x was moved to the edge first ("clamp").
So every pixel that is read exists, and no load needs a mask.
"""

import triton
import triton.language as tl

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
