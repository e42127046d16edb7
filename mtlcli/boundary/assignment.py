"""The cheapest matching of prediction and ground-truth pixels, at every threshold.

With several annotators the benchmark counts the prediction pixels matched to any of them, so it
matters which pixels a matching uses, and the original's minimum-cost matching is needed: a pair
costs its distance, an unmatched pixel the outlier cost. From the highest threshold down, each
pixel that comes or goes is settled by one shortest augmenting path under dual prices (the
Hungarian method with insertions and removals), so that every map's optimum starts from the last.
"""

from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlcli.boundary.kernel import kernel
from mtlcli.boundary.pairs import UNIT, Partners
from mtlcli.boundary.planes import WORD, Index, Planes, changes

Vertices = NDArray[np.int32]
FAR = 1 << 30  # more than any distance
OUTLIER = 100  # cost of an unmatched pixel in units of the tolerance, the benchmark's default


class Side(NamedTuple):
    """One side of the graph; matched pairs have prices that add up to what the pair is worth.

    A pair is worth the outlier cost less its own cost. No allowed pair is worth more than its two
    prices, no price is negative, and a free vertex has price 0: this is what proves optimality.
    """

    start: Index  # (n + 1,) partners of i: partner[start[i] : start[i + 1]]
    partner: Vertices  # (pairs,)
    cost: Vertices  # (pairs,) distance in 1/100 px
    mate: Vertices  # (n,) the vertex it is matched to, -1 if free
    on: NDArray[np.bool_]  # (n,) whether it belongs to the present map
    price: Index  # (n,)
    distance: Index  # (n,) from the root of the present search, FAR if not reached
    parent: Vertices  # (n,) the vertex of the other side it was reached from
    reached: Vertices  # (n,) the vertices the present search has reached


def cheapest_matchings(
    planes: Planes, count: int, of_pixels: Partners, of_truth: Partners, radius: float
) -> tuple[Index, Planes]:
    """Minimum-cost matching of every plane with one annotator's ground truth.

    Minimises sum(round(100 d)) over the pairs + ceil(100 * 100 * radius) per missing pair, the
    objective of the BSDS benchmark's `correspondPixels` without its random sparsification.

    Args:
        planes: (N, words) thinned maps, see planes.py.
        count: number of planes K.
        of_pixels: the allowed truth partners of the N pixels (`candidate_pairs`).
        of_truth: the allowed pixel partners of the G truth pixels.
        radius: the tolerance in px.

    Returns:
        (K,) number of pairs, and (N, words) planes of the prediction pixels in a pair.
    """
    start, pixels = changes(planes, count)
    matched = np.zeros_like(planes)
    sides = _side(of_pixels, on=False), _side(of_truth, on=True)
    worth = int(np.ceil(OUTLIER * UNIT * radius))
    return _assign(start, pixels, *sides, worth, matched), matched


def _side(partners: Partners, on: bool) -> Side:
    n = len(partners.start) - 1
    return Side(
        *partners,
        mate=np.full(n, -1, np.int32),
        on=np.full(n, on),
        price=np.zeros(n, np.int64),
        distance=np.full(n, FAR, np.int64),
        parent=np.full(n, -1, np.int32),
        reached=np.zeros(n, np.int32),
    )


@kernel
def _assign(
    start: Index, changed: Vertices, pixels: Side, truth: Side, worth: int, matched: Planes
) -> Index:
    count = len(start) - 1
    sizes = np.zeros(count, np.int64)
    for step in range(count):
        for pixel in changed[start[step] : start[step + 1]]:
            pixels.on[pixel] = not pixels.on[pixel]
            if pixels.on[pixel]:
                _settle(pixel, pixels, truth, worth)
            else:
                _remove(pixel, pixels, truth, worth)
        k = count - 1 - step
        for pixel in range(len(pixels.mate)):
            if pixels.mate[pixel] >= 0:
                matched[pixel, k // WORD] |= np.uint64(1) << np.uint64(k % WORD)
                sizes[k] += 1
    return sizes


@kernel
def _remove(pixel: int, pixels: Side, truth: Side, worth: int) -> None:
    """Take a pixel that went off out of the matching, and settle the partner it leaves."""
    left = pixels.mate[pixel]
    pixels.price[pixel] = 0
    if left >= 0:
        pixels.mate[pixel] = truth.mate[left] = -1
        _settle(left, truth, pixels, worth)


@kernel
def _settle(root: int, near: Side, far: Side, worth: int) -> None:
    """Make the matching optimal again after the free near vertex `root` has come in.

    Dijkstra's search over alternating paths: a path ends at a free far vertex, which gains a
    pair, or at a near vertex that gives its partner up, at the loss of its price.
    """
    near.price[root] = _lowest_price(root, near, far, worth)
    tree = [np.int64(root)]  # near vertices, in order of distance
    heap = [np.int64(0) for _ in range(0)]
    reached = 0
    distance = near.distance[root] = np.int64(0)
    best, end, last = near.price[root], np.int64(-1), np.int64(root)
    while True:
        i = tree[-1]
        for e in range(near.start[i], near.start[i + 1]):
            j = near.partner[e]
            if not far.on[j]:
                continue
            via = distance + near.price[i] + far.price[j] - (worth - near.cost[e])
            if via < best and via < far.distance[j]:
                if far.distance[j] == FAR:
                    far.reached[reached] = j
                    reached += 1
                far.distance[j], far.parent[j] = via, i
                if far.mate[j] < 0:
                    best, end = via, np.int64(j)
                else:
                    heappush(heap, (via << 32) + j)
        nearest = _next(heap, best, near, far)
        if nearest < 0:
            break
        i = far.mate[nearest]
        distance = near.distance[i] = far.distance[nearest]
        tree.append(np.int64(i))
        if distance + near.price[i] < best:
            best, end, last = distance + near.price[i], np.int64(-1), np.int64(i)

    for i in tree:
        near.price[i] -= best - near.distance[i]
        if near.mate[i] >= 0:
            far.price[near.mate[i]] += best - near.distance[i]
        near.distance[i] = FAR
    if end < 0:  # the near vertex `last` gives its partner up, and stays alone
        end = near.mate[last]
        near.mate[last] = -1
    while end >= 0:
        i = far.parent[end]
        before = near.mate[i]
        near.mate[i], far.mate[end] = end, i
        end = before
    for j in far.reached[:reached]:
        far.distance[j] = FAR


@kernel
def _lowest_price(root: int, near: Side, far: Side, worth: int) -> int:
    """The lowest price of the root at which none of its pairs is worth more than its prices."""
    price = np.int64(0)
    for e in range(near.start[root], near.start[root + 1]):
        if far.on[near.partner[e]]:
            price = max(price, worth - near.cost[e] - far.price[near.partner[e]])
    return price


@kernel
def _next(heap: list[int], best: int, near: Side, far: Side) -> int:
    """The nearest far vertex not yet in the tree, -1 if none is nearer than `best`."""
    while len(heap) > 0:
        code = heappop(heap)
        j = code & 0xFFFFFFFF
        if code >> 32 >= best:
            return -1
        if near.distance[far.mate[j]] == FAR:
            return j
    return -1
