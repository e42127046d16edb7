"""The backward Triton kernels: `differentiate` for offsets and logits, `scatter` for the value.

They take one map of a tile of queries at a time and read the attention again from the logits and
the saved log-sum-exp. What the softmax's gradient needs of all other samples is <gradient, output>
(as in flash attention), so maps are independent of each other.
"""

import triton
import triton.language as tl

from mtlcli.ops.triton_cells import cell_of, hats, slopes, tile_queries

VARYING = ["queries", "height", "width", "rows"]


@triton.jit(do_not_specialize=VARYING)
def differentiate(
    value, maps, reference, offsets, logits, lse, inner, grad_out, grad_offsets, grad_logits,
    queries, height, width, rows,
    offsets_per_image, offsets_per_query, logits_per_image, logits_per_query,
    HEADS: tl.constexpr, LEVELS: tl.constexpr, POINTS: tl.constexpr,
    CHANNELS: tl.constexpr, PITCH: tl.constexpr,
    FIRST: tl.constexpr, BLOCK: tl.constexpr,
    TALL: tl.constexpr, WIDE: tl.constexpr, CLAMP: tl.constexpr,
):  # fmt: skip
    """What channels FIRST to FIRST + BLOCK add; one program for each image, head, map and tile.

    value, maps, reference, offsets, logits, lse: as in `forward`; inner: float32 (B, N, M), which
    is <grad_out, out>; grad_out: (B, N, M, D); grad_offsets: (B, N, M, L, P, 2); grad_logits:
    (B, N, M, L, P), both contiguous, written with the first channels and added to by the others.
    """
    tiles = queries // (height * width) * tl.cdiv(height, TALL) * tl.cdiv(width, WIDE)
    unit = tl.program_id(0)
    level, head = unit // tiles % LEVELS, unit // tiles // LEVELS % HEADS
    image = (unit // tiles // LEVELS // HEADS).to(tl.int64)
    query, exists = tile_queries(unit % tiles, height, width, TALL, WIDE)
    place = (image * queries + query) * HEADS + head
    channel = FIRST + tl.arange(0, BLOCK)
    there = exists[:, None] & (channel < CHANNELS)[None, :]
    grad = tl.load(grad_out + place[:, None] * CHANNELS + channel[None, :], mask=there, other=0.0)
    grad = grad.to(tl.float32)
    log_sum, product = tl.load(lse + place), tl.load(inner + place)

    rows_high, columns = tl.load(maps + 3 * level), tl.load(maps + 3 * level + 1)
    filled = rows_high * columns > 0
    first = tl.where(filled, tl.load(maps + 3 * level + 2), 0)  # an empty map has no row to read
    pixels = value + ((image * HEADS + head) * rows + first) * PITCH
    right = tl.where(columns > 1, PITCH, 0)
    below = tl.where(rows_high > 1, columns * PITCH, 0)
    x_level = tl.load(reference + 2 * query) * columns - 0.5
    y_level = tl.load(reference + 2 * query + 1) * rows_high - 0.5
    k = (head * LEVELS + level) * POINTS
    steps = offsets + image * offsets_per_image + query.to(tl.int64) * offsets_per_query + 2 * k
    scores = logits + image * logits_per_image + query.to(tl.int64) * logits_per_query + k
    target = (place * LEVELS + level) * POINTS
    for point in range(POINTS):
        share = tl.exp(tl.load(scores + point).to(tl.float32) - log_sum)
        x = x_level + tl.load(steps + 2 * point).to(tl.float32)
        y = y_level + tl.load(steps + 2 * point + 1).to(tl.float32)
        column, u = cell_of(x, columns, CLAMP)
        row, v = cell_of(y, rows_high, CLAMP)
        cell = pixels + ((row * columns + column) * PITCH)[:, None] + channel[None, :]
        upper_left = tl.sum(grad * tl.load(cell).to(tl.float32), 1)
        upper_right = tl.sum(grad * tl.load(cell + right).to(tl.float32), 1)
        lower_left = tl.sum(grad * tl.load(cell + below).to(tl.float32), 1)
        lower_right = tl.sum(grad * tl.load(cell + below + right).to(tl.float32), 1)
        near_x, far_x = hats(u, columns, CLAMP)
        near_y, far_y = hats(v, rows_high, CLAMP)
        left_slope, right_slope = slopes(x, u, columns, CLAMP)
        upper_slope, lower_slope = slopes(y, v, rows_high, CLAMP)
        above = near_x * upper_left + far_x * upper_right
        under = near_x * lower_left + far_x * lower_right
        slope_above = left_slope * upper_left + right_slope * upper_right
        slope_under = left_slope * lower_left + right_slope * lower_right
        slope_x = share * (near_y * slope_above + far_y * slope_under)
        slope_y = share * (upper_slope * above + lower_slope * under)
        read = share * (near_y * above + far_y * under)
        slope_x, slope_y = tl.where(filled, slope_x, 0.0), tl.where(filled, slope_y, 0.0)
        read = tl.where(filled, read, 0.0)
        here = target + point
        if FIRST == 0:
            read -= share * product
        else:
            slope_x += tl.load(grad_offsets + 2 * here).to(tl.float32)
            slope_y += tl.load(grad_offsets + 2 * here + 1).to(tl.float32)
            read += tl.load(grad_logits + here).to(tl.float32)
        kind = grad_offsets.dtype.element_ty
        tl.store(grad_offsets + 2 * here, slope_x.to(kind), mask=exists)
        tl.store(grad_offsets + 2 * here + 1, slope_y.to(kind), mask=exists)
        tl.store(grad_logits + here, read.to(grad_logits.dtype.element_ty), mask=exists)


@triton.jit(do_not_specialize=VARYING)
def scatter(
    maps, reference, offsets, logits, lse, grad_out, grad_value,
    queries, height, width, rows,
    offsets_per_image, offsets_per_query, logits_per_image, logits_per_query,
    HEADS: tl.constexpr, LEVELS: tl.constexpr, POINTS: tl.constexpr,
    CHANNELS: tl.constexpr, PITCH: tl.constexpr,
    FIRST: tl.constexpr, BLOCK: tl.constexpr,
    TALL: tl.constexpr, WIDE: tl.constexpr, CLAMP: tl.constexpr,
):  # fmt: skip
    """Adds to grad_value, float32 (B, M, S, PITCH), atomically; the rest as in `differentiate`."""
    tiles = queries // (height * width) * tl.cdiv(height, TALL) * tl.cdiv(width, WIDE)
    unit = tl.program_id(0)
    level, head = unit // tiles % LEVELS, unit // tiles // LEVELS % HEADS
    image = (unit // tiles // LEVELS // HEADS).to(tl.int64)
    rows_high, columns = tl.load(maps + 3 * level), tl.load(maps + 3 * level + 1)
    query, exists = tile_queries(unit % tiles, height, width, TALL, WIDE)
    place = (image * queries + query) * HEADS + head
    channel = FIRST + tl.arange(0, BLOCK)
    there = exists[:, None] & (channel < CHANNELS)[None, :]
    grad = tl.load(grad_out + place[:, None] * CHANNELS + channel[None, :], mask=there, other=0.0)
    grad = grad.to(tl.float32)
    log_sum = tl.load(lse + place)

    first = tl.load(maps + 3 * level + 2)
    pixels = grad_value + ((image * HEADS + head) * rows + first) * PITCH
    right = tl.where(columns > 1, PITCH, 0)
    below = tl.where(rows_high > 1, columns * PITCH, 0)
    x_level = tl.load(reference + 2 * query) * columns - 0.5
    y_level = tl.load(reference + 2 * query + 1) * rows_high - 0.5
    k = (head * LEVELS + level) * POINTS
    steps = offsets + image * offsets_per_image + query.to(tl.int64) * offsets_per_query + 2 * k
    scores = logits + image * logits_per_image + query.to(tl.int64) * logits_per_query + k
    if rows_high * columns > 0:
        for point in range(POINTS):
            share = tl.exp(tl.load(scores + point).to(tl.float32) - log_sum)
            x = x_level + tl.load(steps + 2 * point).to(tl.float32)
            y = y_level + tl.load(steps + 2 * point + 1).to(tl.float32)
            column, u = cell_of(x, columns, CLAMP)
            row, v = cell_of(y, rows_high, CLAMP)
            near_x, far_x = hats(u, columns, CLAMP)
            near_y, far_y = hats(v, rows_high, CLAMP)
            near_y, far_y = near_y * share, far_y * share
            cell = (row * columns + column) * PITCH
            for corner in tl.static_range(4):
                weight = (far_x if corner % 2 else near_x) * (far_y if corner // 2 else near_y)
                pixel = cell
                if corner % 2:
                    pixel += right
                if corner // 2:
                    pixel += below
                added = exists & (weight != 0)
                pixel = pixels + pixel[:, None] + channel[None, :]
                tl.atomic_add(pixel, weight[:, None] * grad, mask=added[:, None], sem="relaxed")
