"""Guo-Hall thinning of one map, or of the maps of all thresholds at once.

The maps of all thresholds are bits of each pixel's words (planes.py) and the deletion rule is
evaluated on words: 64 maps for the price of one. Only pixels beside a change are looked at again.
Further passes over a finished map change nothing, so each plane comes out as if thinned alone.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlcli.boundary.kernel import kernel
from mtlcli.boundary.planes import Index, Planes, nested_planes


def thin(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Thin an (H, W) map (non-zero = on) until nothing changes; returns (H, W) bool.

    The same as MATLAB's `bwmorph(mask, 'thin', inf)` and `skimage.morphology.thin`: Guo and Hall,
    "Parallel thinning with two-subiteration algorithms", CACM 32(3), 1989; outside is off.
    """
    pixels, planes = thin_planes((mask != 0).astype(np.uint16), 1)
    thinned = np.zeros(mask.shape, bool)
    thinned.flat[pixels[planes[:, 0] != 0]] = True
    return thinned


def thin_planes(ranks: NDArray[np.uint16], count: int) -> tuple[Index, Planes]:
    """Thin the `count` nested maps `ranks > k`, k = 0 ... count - 1, at once.

    Args:
        ranks: (H, W), how many of the thresholds each pixel passes, 0 ... count.
        count: number of thresholds.

    Returns:
        The N pixels that stay on in at least one map, as ascending flat indices y * W + x, and
        their planes (N, ceil(count / 64)).
    """
    height, width = ranks.shape
    stride = width + 2
    rows, columns = np.nonzero(ranks)
    pixels = (rows + 1) * stride + columns + 1
    planes = nested_planes(ranks[rows, columns], count)
    padded = np.zeros(((height + 2) * stride, planes.shape[1]), np.uint64)
    padded[pixels] = planes
    _thin(padded, pixels, stride)
    planes = padded[pixels]
    stays = planes.any(axis=1)
    return (rows * width + columns)[stays], planes[stays]


@kernel
def _thin(planes: Planes, pixels: Index, stride: int) -> None:
    """Thin in place: planes (padded pixels, words), with a border of zeros of at least 1 px."""
    words = planes.shape[1]
    queue = np.empty((2, len(pixels)), np.int64)  # what each kind of subiteration must look at
    queue[:] = pixels
    length = np.array([len(pixels), len(pixels)])
    waiting = np.zeros((2, len(planes)), np.bool_)
    candidate = np.zeros(len(planes), np.bool_)
    for pixel in pixels:
        waiting[:, pixel] = True
        candidate[pixel] = True
    changed = np.empty(len(pixels), np.int64)
    deleted = np.empty((len(pixels), words), np.uint64)

    turn = 0
    while length[0] + length[1] > 0:
        changes = 0
        for i in range(length[turn]):
            pixel = queue[turn, i]
            waiting[turn, pixel] = False
            any_bit = np.uint64(0)
            for word in range(words):
                deleted[changes, word] = _deletable(planes, pixel, word, stride, turn == 0)
                any_bit |= deleted[changes, word]
            if any_bit != 0:
                changed[changes] = pixel
                changes += 1
        length[turn] = 0
        for i in range(changes):
            for word in range(words):
                planes[changed[i], word] &= ~deleted[i, word]
            for row in (-stride, 0, stride):
                for near in range(changed[i] + row - 1, changed[i] + row + 2):
                    for kind in range(2):
                        if candidate[near] and not waiting[kind, near]:
                            waiting[kind, near] = True
                            queue[kind, length[kind]] = near
                            length[kind] += 1
        turn = 1 - turn


@kernel
def _deletable(planes: Planes, pixel: int, word: int, stride: int, first: bool) -> np.uint64:
    """The planes in which Guo-Hall's conditions G1, G2 and G3 delete the pixel."""
    on = planes[pixel, word]
    if on == 0:
        return on
    e, w = planes[pixel + 1, word], planes[pixel - 1, word]
    n, s = planes[pixel - stride, word], planes[pixel + stride, word]
    ne, nw = planes[pixel - stride + 1, word], planes[pixel - stride - 1, word]
    se, sw = planes[pixel + stride + 1, word], planes[pixel + stride - 1, word]

    # G1: one crossing, an off side neighbour followed by an on one
    a, b, c, d = ~e & (ne | n), ~n & (nw | w), ~w & (sw | s), ~s & (se | e)
    one_crossing = (a | b | c | d) & ~_two_of(a, b, c, d)
    # G2: 2 or 3 neighbours, pairing each corner with the one or the other side beside it
    a, b, c, d = e | ne, n | nw, w | sw, s | se
    h, i, j, k = ne | n, nw | w, sw | s, se | e
    enough = _two_of(a, b, c, d) & _two_of(h, i, j, k)
    full = a & b & c & d & h & i & j & k
    # G3: the side this subiteration peels
    guarded = ((ne | n | ~se) & e) if first else ((sw | s | ~nw) & w)
    return on & one_crossing & enough & ~full & ~guarded


@kernel
def _two_of(a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64) -> np.uint64:
    """The bits set in at least two of the four words."""
    return (a & b) | (c & d) | ((a | b) & (c | d))
