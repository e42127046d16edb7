"""Deformable attention in plain PyTorch, in chunks that are computed again in the backward pass.

Letters in names: B images, N queries, M heads, L maps, P points, S pixels of all maps, D channels
of a head. A bilinear sample has four taps; nothing of size N x samples x D ever exists, because
`embedding_bag` sums the weighted rows as it reads them.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

TAPS_AT_ONCE = 2**20
"""Taps (head, sample, corner) held at a time: about 100 MiB with all intermediates."""


def deformable_attention(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    border: str = "clamp",
) -> Tensor:
    """See `mtlcli.ops.deformable_attention`; differentiable once."""
    exact = torch.promote_types(offsets.dtype, torch.float32)
    rows = value.to(torch.promote_types(value.dtype, torch.float32))
    arguments = (rows, offsets, logits)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in arguments):
        out = _Recomputed.apply(*arguments, reference.to(exact), tuple(shapes), border)
    else:
        out = _forward(*arguments, reference.to(exact), tuple(shapes), border)
    return out.to(value.dtype)


class _Recomputed(torch.autograd.Function):
    """Saves the inputs only; the backward pass walks through the same chunks again."""

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        offsets: Tensor,
        logits: Tensor,
        reference: Tensor,
        shapes: tuple[tuple[int, int], ...],
        border: str,
    ) -> Tensor:
        ctx.save_for_backward(value, offsets, logits, reference)
        ctx.shapes, ctx.border = shapes, border
        return _forward(value, offsets, logits, reference, shapes, border)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        value, offsets, logits, reference = ctx.saved_tensors
        places = (reference, ctx.shapes, ctx.border)
        return *differentiate(value, offsets, logits, *places, grad_out), None, None, None


def differentiate(
    value: Tensor,
    offsets: Tensor,
    logits: Tensor,
    reference: Tensor,
    shapes: tuple[tuple[int, int], ...],
    border: str,
    grad_out: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of value, offsets and logits, chunk by chunk; autograd need not be at work.

    value, reference: float32 or wider; grad_out: (B, N, M * D) in the type of `value`.
    """
    grads = torch.zeros_like(value), torch.empty_like(offsets), torch.empty_like(logits)
    for image, chunk in _chunks(logits):
        attend = partial(_attend, reference_N2=reference[chunk], shapes=shapes, border=border)
        here = (value[image], offsets[image, chunk], logits[image, chunk])
        pull: Any = torch.func.vjp(attend, *(tensor.detach() for tensor in here))[1]
        rows, steps, scores = pull(grad_out[image, chunk])
        grads[0][image] += rows
        grads[1][image, chunk] = steps
        grads[2][image, chunk] = scores
    return grads


def _forward(
    value: Tensor,
    offsets: Tensor,
    logits: Tensor,
    reference: Tensor,
    shapes: tuple[tuple[int, int], ...],
    border: str,
) -> Tensor:
    batch, queries = logits.shape[:2]
    parts = [
        _attend(
            value[image],
            offsets[image, chunk],
            logits[image, chunk],
            reference[chunk],
            shapes,
            border,
        )
        for image, chunk in _chunks(logits)
    ]
    channels = value.shape[2] * value.shape[3]
    if not parts:
        return value.new_zeros(batch, queries, channels)
    return torch.cat(parts).view(batch, queries, channels)


def _chunks(logits: Tensor) -> Iterator[tuple[int, slice]]:
    """(image, queries) pieces of at most TAPS_AT_ONCE taps, in order."""
    batch, queries, heads, maps, points = logits.shape
    step = max(1, TAPS_AT_ONCE // max(1, heads * maps * points * 4))
    for image in range(batch):
        for start in range(0, queries, step):
            yield image, slice(start, min(start + step, queries))


def _attend(
    value_SMD: Tensor,
    offsets_NMLP2: Tensor,
    logits_NMLP: Tensor,
    reference_N2: Tensor,
    shapes: tuple[tuple[int, int], ...],
    border: str,
) -> Tensor:
    """(N, M * D) for one chunk of one image's queries."""
    pixels, heads, channels = value_SMD.shape
    queries = logits_NMLP.shape[0]
    if pixels * logits_NMLP[0].numel() == 0:  # nothing to read
        return value_SMD.new_zeros(queries, heads * channels) + 0 * (
            value_SMD.sum() + offsets_NMLP2.sum() + logits_NMLP.sum()
        )
    index, weight = taps(offsets_NMLP2, reference_N2, shapes, border)  # both N, M, L, P, 4
    share = logits_NMLP.to(weight.dtype).flatten(2).softmax(-1).view(logits_NMLP.shape)
    weight = (share[..., None] * weight).to(value_SMD.dtype)
    head = torch.arange(heads, device=index.device)[:, None, None, None]
    row = index.clamp(0, pixels - 1) * heads + head
    out = F.embedding_bag(
        row.view(queries * heads, -1),
        value_SMD.reshape(pixels * heads, channels),
        per_sample_weights=weight.reshape(queries * heads, -1),
        mode="sum",
    )
    return out.view(queries, heads * channels)


def taps(
    offsets_NMLP2: Tensor, reference_N2: Tensor, shapes: tuple[tuple[int, int], ...], border: str
) -> tuple[Tensor, Tensor]:
    """The four pixels around each sample and their bilinear weights, (N, M, L, P, 4) each."""
    dtype, device = reference_N2.dtype, reference_N2.device
    sizes = [[width, height] for height, width in shapes]
    areas = torch.tensor([height * width for height, width in shapes], device=device)
    size_L12 = torch.tensor(sizes, dtype=dtype, device=device)[:, None]
    lowest = torch.zeros_like(size_L12) if border == "clamp" else -torch.ones_like(size_L12)
    highest = size_L12 - 1 if border == "clamp" else size_L12

    position = reference_N2[:, None, None, None] * size_L12 - 0.5 + offsets_NMLP2.to(dtype)
    position = torch.where(position < lowest, lowest, position)  # keeps the gradient at the limit,
    position = torch.where(position > highest, highest, position)  # which clamp shares out
    cell = position.detach().floor()
    fraction = position - cell
    weight = torch.stack((1 - fraction, fraction), -1)  # N, M, L, P, xy, 2
    pixel = torch.stack((cell, cell + 1), -1)
    limit = size_L12[..., None]
    weight = torch.where(limit > 0, weight, 0.0)
    if border == "zeros":  # weights that are NaN stay
        weight = torch.where((pixel < 0) | (pixel >= limit), 0.0, weight)
    pixel = pixel.long().clamp(torch.zeros_like(limit).long(), (limit - 1).long())

    first = (areas.cumsum(0) - areas)[:, None, None, None]
    x, y = pixel[..., 0, None, :], pixel[..., 1, :, None]
    index = first + y * size_L12[..., 0].long()[..., None, None] + x  # N, M, L, P, 2, 2
    corner = weight[..., 1, :, None] * weight[..., 0, None, :]
    return index.flatten(-2), corner.flatten(-2)
