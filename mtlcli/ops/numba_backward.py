"""The backward kernel: gradients of value, offsets and logits, a few maps of one head at a time.

A unit owns its maps, so it adds up the value's gradient in memory of its own, in a fixed order,
without atomics. It reads the attention again from the logits and the saved log-sum-exp; what the
softmax's gradient needs of all other samples is <gradient, output> (as in flash attention).
"""

import numpy as np
from numba import njit

from mtlcli.ops.numba_cells import (
    ATTENTION,
    LOWER_LEFT,
    LOWER_RIGHT,
    MOST,
    ONE,
    OPTIONS,
    UPPER_LEFT,
    UPPER_RIGHT,
    ZERO,
    X,
    Y,
    cell_of,
    exp_of_negative,
    hat,
    hat_slope,
    limits,
    locate,
    place,
    room_for_samples,
)
from mtlcli.ops.numba_lanes import LANES, add_scaled, load, peek, poke, products, store, store_sums


def backward(
    first, last, value, problem, groups, offsets, logits, lse, inner, grad_out,
    grad_value, grad_offsets, grad_logits,
):  # fmt: skip
    """Units [first, last) of B x M x groups of maps.

    value, grad_value: (B, S, M, D); groups: int64 (G, 2), first and last map; offsets, logits:
    `Rows`; lse, inner: float32 (B, N, M), inner is <grad_out, out>; grad_out: (B, N, M, D);
    grad_offsets, grad_logits: as the offsets and logits, contiguous. Arrays are flat, float32 or
    bfloat16.
    """
    if first == last:
        return
    heads, channels, maps = problem.heads, problem.channels, problem.maps
    width = len(problem.vectors) * LANES
    largest = 0
    for group in range(len(groups)):
        largest = max(largest, rows_of(maps, groups[group])[1])
    rows, sums = cache_aligned(largest * width), cache_aligned(largest * width)
    grad_rows = cache_aligned(problem.block * width)
    samples = room_for_samples()
    dots = np.empty(4 * MOST, np.float32)
    for unit in range(first, last):
        group = groups[unit % len(groups)]
        head, image = unit // len(groups) % heads, unit // len(groups) // heads
        start, count = rows_of(maps, group)
        home = ((image * problem.rows + start) * heads + head) * channels
        pad(value, home, heads * channels, count, channels, width, rows)
        sums[: count * width] = ZERO
        for begin in range(0, len(problem.order), problem.block):
            members = problem.order[begin : begin + problem.block]
            for i in range(len(members)):
                row = (image * len(problem.order) + members[i]) * heads + head
                pad(grad_out, row * channels, 0, 1, channels, width, grad_rows[i * width :])
            for level in range(group[0], group[1] + 1):
                locate(problem, offsets, image, head, level, members, samples)
                attend(problem, logits, lse, image, head, level, members, samples)
                scatter(problem, level, start, len(members), samples, grad_rows, rows, sums, dots)
                write(problem, image, head, level, members, samples,
                      dots, inner, grad_offsets, grad_logits)  # fmt: skip
        for i in range(count):
            for c in range(channels):
                poke(grad_value, home + i * heads * channels + c, sums[i * width + c])


@njit(**OPTIONS)
def rows_of(maps, group):
    """The first value row of the maps group[0] to group[1], and how many they have together."""
    last = maps[group[1]]
    start = maps[group[0], 2]
    return start, last[2] + last[0] * last[1] - start


@njit(**OPTIONS)
def cache_aligned(count):
    """`count` uninitialised float32 numbers from the start of a cache line on."""
    memory = np.empty(count + LANES, np.float32)
    skip = -(memory.ctypes.data // 4) % LANES
    return memory[skip : skip + count]


@njit(**OPTIONS)
def pad(source, start, stride, count, channels, width, rows):
    """Copy `count` rows of `channels` numbers, `stride` apart, to float32 rows ending in zeros."""
    for i in range(count):
        for c in range(channels):
            rows[i * width + c] = peek(source, start + i * stride + c)
        for c in range(channels, width):
            rows[i * width + c] = ZERO


@njit(**OPTIONS)
def attend(problem, logits, lse, image, head, level, members, samples):
    """Fill in the attention of the queries `members` on one map."""
    points, heads, levels = problem.points, problem.heads, len(problem.maps)
    planes = samples.planes
    for i in range(len(members)):
        start = image * logits.per_image + members[i] * logits.per_query
        start += (head * levels + level) * points
        log_sum = lse[(image * len(problem.order) + members[i]) * heads + head]
        for j in range(points):
            planes[ATTENTION + i * points + j] = peek(logits.numbers, start + j) - log_sum
    for i in range(len(members) * points):
        planes[ATTENTION + i] = exp_of_negative(planes[ATTENTION + i])


@njit(**OPTIONS)
def scatter(problem, level, start, members, samples, grad_rows, rows, sums, dots):
    """Inner products of each query's gradient with its pixels, and its share of their gradient.

    start: the value row that `rows` and `sums` begin with; dots: (samples, 4).
    """
    vectors, points, planes = problem.vectors, problem.points, samples.planes
    height, columns = problem.maps[level, 0], problem.maps[level, 1]
    if height * columns == 0:
        dots[:] = ZERO
        return
    place(samples, members * points, height, columns, problem.clamp)
    width = len(vectors) * LANES
    base = (problem.maps[level, 2] - start) * width
    right = width if columns > 1 else 0
    below = width * columns if height > 1 else 0
    for i in range(members):
        grad = load(grad_rows, i * width, vectors)
        for s in range(i * points, (i + 1) * points):
            cell = base + np.int64(samples.cells[s]) * width
            store_sums(
                dots,
                4 * s,
                products(grad, load(rows, cell, vectors)),
                products(grad, load(rows, cell + right, vectors)),
                products(grad, load(rows, cell + below, vectors)),
                products(grad, load(rows, cell + below + right, vectors)),
            )
            add_to(sums, cell, planes[UPPER_LEFT + s], grad, vectors)
            add_to(sums, cell + right, planes[UPPER_RIGHT + s], grad, vectors)
            add_to(sums, cell + below, planes[LOWER_LEFT + s], grad, vectors)
            add_to(sums, cell + below + right, planes[LOWER_RIGHT + s], grad, vectors)


@njit(**OPTIONS)
def add_to(sums, place, weight, row, vectors):
    """sums[place:] += weight * row; neighbours may be one pixel, so one at a time."""
    store(sums, place, add_scaled(load(sums, place, vectors), weight, row))


@njit(**OPTIONS)
def write(
    problem, image, head, level, members, samples, dots, inner, grad_offsets, grad_logits
):  # fmt: skip
    """Turn the inner products into the gradients of offsets and logits."""
    points, levels, queries = problem.points, len(problem.maps), len(problem.order)
    planes = samples.planes
    differentiate(samples, dots, len(members) * points, problem.maps[level], problem.clamp)
    for i in range(len(members)):
        row = (image * queries + members[i]) * problem.heads + head
        start = (row * levels + level) * points
        for j in range(points):
            s = i * points + j
            poke(grad_offsets, 2 * (start + j), planes[X + s])
            poke(grad_offsets, 2 * (start + j) + 1, planes[Y + s])
            grad_logit = planes[UPPER_LEFT + s] - planes[ATTENTION + s] * inner[row]
            poke(grad_logits, start + j, grad_logit)


@njit(**OPTIONS)
def differentiate(samples, dots, count, size, clamp):
    """Replace x and y by their gradients, upper_left by attention times the sample's product."""
    height, width = size[0], size[1]
    low_x, high_x = limits(width, clamp)
    low_y, high_y = limits(height, clamp)
    right_exists = ONE if width > 1 else ZERO
    lower_exists = ONE if height > 1 else ZERO
    planes = samples.planes
    for i in range(count):
        x, y, attention = planes[X + i], planes[Y + i], planes[ATTENTION + i]
        _, u = cell_of(x, low_x, high_x, width)
        _, v = cell_of(y, low_y, high_y, height)
        left, right = hat(u), hat(u - ONE) * right_exists
        upper, lower = hat(v), hat(v - ONE) * lower_exists
        top = left * dots[4 * i] + right * dots[4 * i + 1]
        bottom = left * dots[4 * i + 2] + right * dots[4 * i + 3]
        left, right = hat_slope(u), hat_slope(u - ONE) * right_exists
        slope_top = left * dots[4 * i] + right * dots[4 * i + 1]
        slope_bottom = left * dots[4 * i + 2] + right * dots[4 * i + 3]
        slope_down = hat_slope(v) * top + hat_slope(v - ONE) * lower_exists * bottom
        inside_x, inside_y = (x >= low_x) and (x < high_x), (y >= low_y) and (y < high_y)
        planes[UPPER_LEFT + i] = attention * (upper * top + lower * bottom)
        planes[X + i] = attention * (upper * slope_top + lower * slope_bottom) if inside_x else ZERO
        planes[Y + i] = attention * slope_down if inside_y else ZERO
