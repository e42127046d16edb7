"""The forward kernel: softmax, bilinear sampling and weighted sum, a block of queries at a time.

A block walks the maps one after the other, so that the pixels its queries share stay in the cache.
"""

import numpy as np
from numba import njit

from mtlcli.ops.numba_cells import (
    ATTENTION,
    LOWER_LEFT,
    LOWER_RIGHT,
    ONE,
    OPTIONS,
    UPPER_LEFT,
    UPPER_RIGHT,
    ZERO,
    exp_of_negative,
    locate,
    place,
    room_for_samples,
)
from mtlcli.ops.numba_lanes import LANES, add_scaled, load, peek, poke, store, zeros


def forward(first, last, value, problem, offsets, logits, out, lse):
    """Units [first, last) of B x M x blocks.

    value: float32 (B, M, S, padded channels); offsets, logits: `Rows`; out: (B, N, M, D), float32
    or bfloat16; lse: float32 (B, N, M), the log of each softmax's sum. Arrays are flat.
    """
    maps, points, heads = problem.maps, problem.points, problem.heads
    queries, width, block = len(problem.order), len(problem.vectors) * LANES, problem.block
    blocks = (queries + block - 1) // block
    samples = room_for_samples()
    powers = np.empty((block, len(maps) * points), np.float32)
    totals = np.empty(block, np.float32)
    sums = np.empty(block * width, np.float32)
    for unit in range(first, last):
        image, head = unit // blocks // heads, unit // blocks % heads
        members = problem.order[unit % blocks * block : (unit % blocks + 1) * block]
        exponentiate(logits, image, head, heads, queries, members, powers, totals, lse)
        sums[:] = ZERO
        for level in range(len(maps)):
            height, columns = maps[level, 0], maps[level, 1]
            if height * columns > 0:
                locate(problem, offsets, image, head, level, members, samples)
                for i in range(len(members)):
                    for j in range(points):
                        samples.planes[ATTENTION + i * points + j] = powers[i, level * points + j]
                place(samples, len(members) * points, height, columns, problem.clamp)
                base = ((image * heads + head) * problem.rows + maps[level, 2]) * width
                right = width if columns > 1 else 0
                below = width * columns if height > 1 else 0
                for i in range(len(members)):
                    gather(value, base, right, below, samples, i, points, sums, problem.vectors)
        for i in range(len(members)):
            start = ((image * queries + members[i]) * heads + head) * problem.channels
            for c in range(problem.channels):
                poke(out, start + c, sums[i * width + c] / totals[i])


@njit(**OPTIONS)
def exponentiate(logits, image, head, heads, queries, members, powers, totals, lse):
    """exp(logit - the query's largest logit) of all samples, their sums, and the log-sum-exp."""
    count = powers.shape[1]
    for i in range(len(members)):
        start = image * logits.per_image + members[i] * logits.per_query + head * count
        largest, total = peek(logits.numbers, start), ZERO
        for k in range(1, count):
            logit = peek(logits.numbers, start + k)
            largest = logit if logit > largest else largest
        for k in range(count):
            powers[i, k] = exp_of_negative(peek(logits.numbers, start + k) - largest)
            total += powers[i, k]
        totals[i] = total
        lse[(image * queries + members[i]) * heads + head] = largest + np.log(total)


@njit(**OPTIONS)
def gather(value, base, right, below, samples, member, points, sums, vectors):
    """Add the weighted samples of one query on one map to its row of `sums`."""
    row = member * len(vectors) * LANES
    planes = samples.planes
    upper, lower = load(sums, row, vectors), zeros(vectors)  # two chains hide the latency of sums
    for s in range(member * points, (member + 1) * points):
        cell = base + np.int64(samples.cells[s]) * len(vectors) * LANES
        upper = add_scaled(upper, planes[UPPER_LEFT + s], load(value, cell, vectors))
        upper = add_scaled(upper, planes[UPPER_RIGHT + s], load(value, cell + right, vectors))
        cell += below
        lower = add_scaled(lower, planes[LOWER_LEFT + s], load(value, cell, vectors))
        lower = add_scaled(lower, planes[LOWER_RIGHT + s], load(value, cell + right, vectors))
    store(sums, row, add_scaled(upper, ONE, lower))
