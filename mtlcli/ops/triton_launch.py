"""Launches the Triton kernels: a launch per block of channels, all on one description."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlcli.ops import triton_backward, triton_forward
from mtlcli.ops.fused import Attention
from mtlcli.ops.raster import map_table, raster
from mtlcli.ops.triton_cells import cuts, pitch, tiles

SOFTMAX_QUERIES, SOFTMAX_CHUNK = 16, 64
OPTIONS: dict[str, Any] = {"num_stages": 1, "enable_fp_fusion": True}  # of the compiler


def log_sum_exp(attention: Attention, lse: Tensor) -> None:
    """Fill `lse`, float32 (B, N, M)."""
    batch, queries, heads = lse.shape
    logits = attention.logits
    triton_forward.log_sum_exp[(batch * heads * -(-queries // SOFTMAX_QUERIES),)](
        logits,
        lse,
        queries,
        *logits.stride()[:2],
        HEADS=heads,
        SAMPLES=logits[0, 0, 0].numel(),
        BLOCK=SOFTMAX_QUERIES,
        CHUNK=SOFTMAX_CHUNK,
        **OPTIONS,
    )


def forward(attention: Attention, lse: Tensor, out: Tensor) -> None:
    """Fill `out` (B, N, M * D), given `lse`."""
    _launch(
        triton_forward.forward,
        attention,
        (_padded(attention.value), *_places(attention), out, lse),
        per_map=False,
    )


def differentiate(
    attention: Attention,
    lse: Tensor,
    inner: Tensor,
    grad_out: Tensor,
    grad_offsets: Tensor,
    grad_logits: Tensor,
) -> None:
    """Fill the last two, contiguous like offsets and logits; `inner` is <grad_out, out>."""
    read = (_padded(attention.value), *_places(attention), lse, inner, grad_out)
    _launch(triton_backward.differentiate, attention, (*read, grad_offsets, grad_logits))


def scatter(attention: Attention, lse: Tensor, grad_out: Tensor) -> Tensor:
    """The value's gradient, float32 (B, S, M, D), a view; sums come in any order."""
    batch, rows, heads, channels = attention.value.shape
    sums = lse.new_zeros(batch, heads, rows, pitch(channels))
    _launch(triton_backward.scatter, attention, (*_places(attention), lse, grad_out, sums))
    return sums[..., :channels].transpose(1, 2)


def _padded(value: Tensor) -> Tensor:
    """(B, M, S, pitch): head by head, rows ending in zeros so that lanes read 16 bytes each."""
    missing = pitch(value.shape[3]) - value.shape[3]
    return F.pad(value.detach().transpose(1, 2), (0, missing)).contiguous()


def _places(attention: Attention) -> tuple[Tensor, ...]:
    table = map_table(tuple(attention.sizes), attention.value.device)
    return table, attention.reference, attention.offsets, attention.logits


def _launch(
    kernel: Any, attention: Attention, tensors: Sequence[Tensor], per_map: bool = True
) -> None:
    _, rows, heads, channels = attention.value.shape
    batch, queries, _, levels, points = attention.logits.shape
    height, width = raster(attention.shapes, queries)
    architecture = _architecture(attention.value.device)
    for cut in cuts(kernel.__name__, channels, attention.value.element_size(), architecture):
        units = batch * heads * (levels if per_map else 1) * tiles(cut, height, width, queries)
        kernel[(units,)](
            *tensors,
            queries,
            height,
            width,
            rows,
            *attention.offsets.stride()[:2],
            *attention.logits.stride()[:2],
            HEADS=heads,
            LEVELS=levels,
            POINTS=points,
            CHANNELS=channels,
            PITCH=pitch(channels),
            FIRST=cut.first,
            BLOCK=cut.block,
            TALL=cut.tall,
            WIDE=cut.wide,
            CLAMP=attention.clamp,
            num_warps=cut.warps,
            **OPTIONS,
        )


def _architecture(device: torch.device) -> int:
    """90 for compute capability 9.0; 0 where there is no such thing."""
    if device.type != "cuda":
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
