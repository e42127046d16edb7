"""Deformable attention over several maps: one contract, interchangeable implementations."""

from collections.abc import Sequence
from typing import Literal, cast, get_args

from torch import Tensor

from mtlcli.errors import InputError
from mtlcli.ops import choice
from mtlcli.ops.fused import ShapesAlone

Border = Literal["clamp", "zeros"]


def deformable_attention(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    border: str = "clamp",
) -> Tensor:
    """Each query's weighted sum of a few bilinear samples of every map (Deformable-DETR, eq. 3).

    Query n of head m reads map l at `reference[n] * (W_l, H_l) - 0.5 + offsets[n, m, l, p]`, in
    pixels with pixel centres at whole numbers, and weighs what it reads by a softmax of its logits
    over all maps and points together.

    Args:
        value: (B, S, M, D) rows of all maps, one map after the other, each in raster order.
        shapes: L pairs (H_l, W_l), the maps' sizes; their areas add up to S. A map may be empty:
            it reads as zero.
        reference: (N, 2) points (x, y) in [0, 1], the same on every map; no gradient flows to it.
        offsets: (B, N, M, L, P, 2) steps (x, y) in pixels of each map's own grid. At whole-pixel
            positions the gradient is the one to the right. Infinity is a point far away; NaN makes
            that query's output NaN.
        logits: (B, N, M, L, P).
        border: what lies outside a map: `clamp` repeats its edge pixel, `zeros` is zero.

    Returns:
        (B, N, M * D), in the type of `value`; positions, weights and sums are float32 at least. On
        the meta device only shapes, those of the gradients too.

    Raises:
        InputError: shapes that do not agree, or an unknown border.
    """
    _check(value, shapes, reference, offsets, logits, border)
    if value.is_meta:
        return cast(Tensor, ShapesAlone.apply(value, reference, offsets, logits))
    operator = choice.first(value, offsets) or choice.choose(value)
    return operator(value, shapes, reference, offsets, logits, border)


def _check(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    border: str,
) -> None:
    if border not in get_args(Border):
        raise InputError(f"border must be one of {', '.join(get_args(Border))}, not '{border}'.")
    if value.dim() != 4 or logits.dim() != 5:
        raise InputError(
            f"value must be (B, S, M, D) and logits (B, N, M, L, P), "
            f"not {tuple(value.shape)} and {tuple(logits.shape)}."
        )
    pixels = sum(height * width for height, width in shapes)
    if pixels != value.shape[1]:
        raise InputError(
            f"The maps {list(shapes)} hold {pixels} pixels, but value has {value.shape[1]} rows."
        )
    batch, _, heads, _ = value.shape
    queries, points = logits.shape[1], logits.shape[4]
    wanted = {
        "reference": (reference, (queries, 2)),
        "logits": (logits, (batch, queries, heads, len(shapes), points)),
        "offsets": (offsets, (batch, queries, heads, len(shapes), points, 2)),
    }
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape:
            raise InputError(
                f"{name} must be {shape} for {batch} images, {queries} queries, {heads} heads, "
                f"{len(shapes)} maps and {points} points, not {tuple(tensor.shape)}."
            )
