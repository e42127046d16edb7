"""The forward Triton kernel: softmax, bilinear sampling and weighted sum of a tile of queries.

A row of D channels is read as one block of a power of two and a smaller one for the rest (70 is
64 + 8), in loads of 16 bytes a lane. Neighbouring queries share most of what they read, so the
tile's pixels stay in the first-level cache.
"""

import triton
import triton.language as tl

from mtlcli.ops.triton_cells import cell_of, hats, tile_queries


@triton.jit(do_not_specialize=["queries"])
def log_sum_exp(
    logits, lse, queries, logits_per_image, logits_per_query,
    HEADS: tl.constexpr, SAMPLES: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """lse, float32 (B, N, M): the log of each softmax's sum; one program for BLOCK queries.

    Loops carry (BLOCK, CHUNK) numbers and rows are reduced after them: compilers before Triton 3.9
    fail on a reduction that a loop carries and uses twice.
    """
    blocks = tl.cdiv(queries, BLOCK)
    unit = tl.program_id(0)
    head, image = unit // blocks % HEADS, (unit // blocks // HEADS).to(tl.int64)
    query = unit % blocks * BLOCK + tl.arange(0, BLOCK)
    exists = query < queries
    scores = logits + image * logits_per_image + head * SAMPLES
    scores += tl.where(exists, query, 0).to(tl.int64)[:, None] * logits_per_query
    k = tl.arange(0, CHUNK)
    largest = tl.full((BLOCK, CHUNK), -float("inf"), tl.float32)
    for start in range(0, SAMPLES, CHUNK):
        there = (start + k < SAMPLES)[None, :]
        chunk = tl.load(scores + (start + k)[None, :], mask=there, other=-float("inf"))
        largest = tl.maximum(largest, chunk.to(tl.float32))
    peak = tl.max(largest, 1)
    sums = tl.zeros((BLOCK, CHUNK), tl.float32)
    for start in range(0, SAMPLES, CHUNK):
        there = (start + k < SAMPLES)[None, :]
        chunk = tl.load(scores + (start + k)[None, :], mask=there, other=-float("inf"))
        sums += tl.exp(chunk.to(tl.float32) - peak[:, None])
    place = (image * queries + query) * HEADS + head
    tl.store(lse + place, peak + tl.log(tl.sum(sums, 1)), mask=exists)


@triton.jit(do_not_specialize=["queries", "height", "width", "rows"])
def forward(
    value, maps, reference, offsets, logits, out, lse,
    queries, height, width, rows,
    offsets_per_image, offsets_per_query, logits_per_image, logits_per_query,
    HEADS: tl.constexpr, LEVELS: tl.constexpr, POINTS: tl.constexpr,
    CHANNELS: tl.constexpr, PITCH: tl.constexpr,
    FIRST: tl.constexpr, BLOCK: tl.constexpr,
    TALL: tl.constexpr, WIDE: tl.constexpr, CLAMP: tl.constexpr,
):  # fmt: skip
    """Channels FIRST to FIRST + BLOCK: one program for each image, head and tile, tiles fastest.

    value: (B, M, S, PITCH) padded rows; maps: int32 (L, 3), height, width, first row; reference:
    float32 (N, 2); offsets, logits: a query's numbers are contiguous, strides as given; out:
    (B, N, M, D); lse: of `log_sum_exp`.
    """
    tiles = queries // (height * width) * tl.cdiv(height, TALL) * tl.cdiv(width, WIDE)
    unit = tl.program_id(0)
    head, image = unit // tiles % HEADS, (unit // tiles // HEADS).to(tl.int64)
    query, exists = tile_queries(unit % tiles, height, width, TALL, WIDE)
    place = (image * queries + query) * HEADS + head
    steps = offsets + image * offsets_per_image + query.to(tl.int64) * offsets_per_query
    scores = logits + image * logits_per_image + query.to(tl.int64) * logits_per_query
    steps += head * (LEVELS * POINTS) * 2
    scores += head * (LEVELS * POINTS)
    log_sum = tl.load(lse + place)
    x_reference = tl.load(reference + 2 * query)
    y_reference = tl.load(reference + 2 * query + 1)

    channel = FIRST + tl.arange(0, BLOCK)
    sums = tl.zeros((TALL * WIDE, BLOCK), tl.float32)
    for level in range(LEVELS):
        rows_high = tl.load(maps + 3 * level)
        columns = tl.load(maps + 3 * level + 1)
        first = tl.load(maps + 3 * level + 2)
        pixels = value + ((image * HEADS + head) * rows + first) * PITCH
        right = tl.where(columns > 1, PITCH, 0)
        below = tl.where(rows_high > 1, columns * PITCH, 0)
        x_level = x_reference * columns - 0.5
        y_level = y_reference * rows_high - 0.5
        if rows_high * columns > 0:  # an empty map reads as zero
            for point in range(POINTS):
                k = level * POINTS + point
                share = tl.exp(tl.load(scores + k).to(tl.float32) - log_sum)
                x = x_level + tl.load(steps + 2 * k).to(tl.float32)
                y = y_level + tl.load(steps + 2 * k + 1).to(tl.float32)
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
                    read = tl.load(pixels + pixel[:, None] + channel[None, :])
                    sums += weight[:, None] * read.to(tl.float32)

    there = exists[:, None] & (channel < CHANNELS)[None, :]
    target = out + place[:, None] * CHANNELS + channel[None, :]
    tl.store(target, sums.to(out.dtype.element_ty), mask=there)
