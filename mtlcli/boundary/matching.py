"""The largest one-to-one matching of prediction and ground-truth pixels, at every threshold.

From the highest threshold down, a map's matching starts from that of the map before: pixels that
went off are released, new ones take the nearest free partner, and augmenting paths (Pothen and
Fan, "Computing the block triangular form of a sparse matrix", ACM TOMS 16(4), 1990) add what is
missing. A pass that finds no path proves that the matching is maximal.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlcli.boundary.kernel import kernel
from mtlcli.boundary.pairs import Partners
from mtlcli.boundary.planes import Index, Planes, changes

Vertices = NDArray[np.int32]


class Side(NamedTuple):
    """One side of the graph and what the search keeps for each of its n vertices."""

    start: Index  # (n + 1,) partners of i: partner[start[i] : start[i + 1]]
    partner: Vertices  # (pairs,)
    mate: Vertices  # (n,) the vertex it is matched to, -1 if free
    on: NDArray[np.bool_]  # (n,) whether it belongs to the present map
    seen: Vertices  # (n,) the last pass whose search came by
    glance: Index  # (n,) where to look on for a free partner


def matching_sizes(
    planes: Planes, count: int, of_pixels: Partners, of_truth: Partners
) -> NDArray[np.int64]:
    """Size of the maximum-cardinality matching of every plane with one ground truth.

    Args:
        planes: (N, words) thinned maps, see planes.py.
        count: number of planes K.
        of_pixels: the allowed truth partners of the N pixels (`candidate_pairs`).
        of_truth: the allowed pixel partners of the G truth pixels.

    Returns:
        (K,) int64, the exact maximum; it depends on no order of pixels or partners.
    """
    start, pixels = changes(planes, count)
    return _sizes(start, pixels, _side(of_pixels, on=False), _side(of_truth, on=True))


def _side(partners: Partners, on: bool) -> Side:
    n = len(partners.start) - 1
    return Side(
        start=partners.start,
        partner=partners.partner,
        mate=np.full(n, -1, np.int32),
        on=np.full(n, on),
        seen=np.zeros(n, np.int32),
        glance=np.zeros(n, np.int64),
    )


@kernel
def _sizes(start: Index, changed: Vertices, pixels: Side, truth: Side) -> Index:
    count = len(start) - 1
    sizes = np.zeros(count, np.int64)
    size, stamp = 0, 0
    longest = max(len(pixels.mate), len(truth.mate)) + 1
    path, edge = np.empty(longest, np.int32), np.empty(longest, np.int64)
    for step in range(count):
        change = changed[start[step] : start[step + 1]]
        size += _release(change, pixels, truth) + _take_nearest(change, pixels, truth)
        if len(change) > 0:
            free, free_truth = _free(pixels), _free(truth)
            near, far = pixels, truth
            if len(free_truth) < len(free):
                free, near, far = free_truth, truth, pixels
            near.glance[:] = near.start[:-1]
            found = len(free)
            while found > 0:
                stamp += 1
                found = 0
                for root in free:
                    if near.mate[root] < 0 and _augment(root, near, far, stamp, path, edge):
                        found += 1
                size += found
        sizes[count - 1 - step] = size
    return sizes


@kernel
def _release(change: Vertices, pixels: Side, truth: Side) -> int:
    """Switch the changed pixels, and free the partners of those that went off."""
    gained = 0
    for pixel in change:
        pixels.on[pixel] = not pixels.on[pixel]
        if not pixels.on[pixel] and pixels.mate[pixel] >= 0:
            truth.mate[pixels.mate[pixel]] = -1
            pixels.mate[pixel] = -1
            gained -= 1
    return gained


@kernel
def _take_nearest(change: Vertices, pixels: Side, truth: Side) -> int:
    """Match every new pixel that has a free partner to the nearest one."""
    gained = 0
    for pixel in change:
        if pixels.on[pixel]:
            for g in pixels.partner[pixels.start[pixel] : pixels.start[pixel + 1]]:
                if truth.mate[g] < 0:
                    truth.mate[g], pixels.mate[pixel] = pixel, g
                    gained += 1
                    break
    return gained


@kernel
def _free(side: Side) -> Vertices:
    """The unmatched vertices of the present map that have any partner."""
    free = np.empty(len(side.mate), np.int32)
    count = 0
    for i in range(len(free)):
        if side.on[i] and side.mate[i] < 0 and side.start[i] < side.start[i + 1]:
            free[count] = i
            count += 1
    return free[:count]


@kernel
def _augment(root: int, near: Side, far: Side, stamp: int, path: Vertices, edge: Index) -> bool:
    """Depth-first search of a path from `root` to a free far vertex; flips it when found."""
    depth = 0
    path[0], edge[0] = root, near.start[root]
    while depth >= 0:
        i = path[depth]
        end = _free_partner(i, near, far)
        if end >= 0:
            for d in range(depth, -1, -1):
                i = path[d]
                before = near.mate[i]
                near.mate[i], far.mate[end] = end, i
                end = before
            return True
        deeper = False
        while edge[depth] < near.start[i + 1] and not deeper:
            j = near.partner[edge[depth]]
            edge[depth] += 1
            deeper = far.on[j] and far.seen[j] != stamp
        if deeper:
            far.seen[j] = stamp
            depth += 1
            path[depth], edge[depth] = far.mate[j], near.start[far.mate[j]]
        else:
            depth -= 1
    return False


@kernel
def _free_partner(i: int, near: Side, far: Side) -> int:
    """A free partner of near vertex i, or -1; what was passed over once is never free again."""
    while near.glance[i] < near.start[i + 1]:
        j = near.partner[near.glance[i]]
        near.glance[i] += 1
        if far.on[j] and far.mate[j] < 0:
            return j
    return -1
