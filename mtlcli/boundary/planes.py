"""The on/off maps of all thresholds at once, as bits ("planes") of each pixel's 64-bit words.

Map k (of the k-th lowest threshold) is bit k % 64 of word k // 64, so N pixels and K thresholds
are an (N, ceil(K / 64)) uint64 array.
"""

import numpy as np
from numpy.typing import NDArray

from mtlcli.boundary.kernel import kernel

Planes = NDArray[np.uint64]
Index = NDArray[np.int64]
WORD = 64


def nested_planes(ranks: NDArray[np.uint16], count: int) -> Planes:
    """Planes of the nested maps `rank > k`, k = 0 ... count - 1; ranks (N,) are 0 ... count."""
    bits = np.arange(-(-count // WORD) * WORD)
    low_bits = np.packbits(bits < np.arange(count + 1)[:, None], axis=1, bitorder="little")
    return low_bits.view("<u8").astype(np.uint64)[ranks]


@kernel
def plane_sizes(planes: Planes, count: int) -> Index:
    """(count,) number of pixels on in each plane."""
    sizes = np.zeros(count, np.int64)
    for pixel in range(len(planes)):
        for k in range(count):
            sizes[k] += is_on(planes, pixel, k)
    return sizes


@kernel
def changes(planes: Planes, count: int) -> tuple[Index, NDArray[np.int32]]:
    """The pixels that differ from the plane above, from the highest plane (above it: all off) down.

    Returns:
        (count + 1,) starts and the pixels; those that change in plane k are
        `pixels[start[count - 1 - k] : start[count - k]]`.
    """
    start = np.zeros(count + 1, np.int64)
    for pixel in range(len(planes)):
        above = False
        for step in range(count):
            now = is_on(planes, pixel, count - 1 - step)
            start[step + 1] += now != above
            above = now
    start = np.cumsum(start)
    fill = start.copy()
    pixels = np.empty(start[count], np.int32)
    for pixel in range(len(planes)):
        above = False
        for step in range(count):
            now = is_on(planes, pixel, count - 1 - step)
            if now != above:
                pixels[fill[step]] = pixel
                fill[step] += 1
            above = now
    return start, pixels


@kernel
def is_on(planes: Planes, pixel: int, k: int) -> bool:
    """Whether the pixel is on in plane k."""
    return (planes[pixel, k >> 6] >> np.uint64(k & 63)) & np.uint64(1) != 0
