"""Launches the Triton kernels: a launch per block of channels, all on one description."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlcli.ops import triton_backward, triton_forward
from mtlcli.ops.triton_cells import cuts, pitch, raster, tiles

SOFTMAX_QUERIES, SOFTMAX_CHUNK = 16, 64
OPTIONS: dict[str, Any] = {"num_stages": 1, "enable_fp_fusion": True}  # of the compiler


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What all kernels are told; only what belongs to one query need be contiguous."""

    value: Tensor  # (B, S, M, D)
    sizes: tuple[int, ...]  # height and width of each map
    reference: Tensor  # float32 (N, 2)
    offsets: Tensor  # (B, N, M, L, P, 2)
    logits: Tensor  # (B, N, M, L, P)
    clamp: bool

    @property
    def shapes(self) -> list[tuple[int, int]]:
        return list(zip(self.sizes[::2], self.sizes[1::2]))


def log_sum_exp(problem: Problem, lse: Tensor) -> None:
    """Fill `lse`, float32 (B, N, M)."""
    batch, queries, heads = lse.shape
    triton_forward.log_sum_exp[(batch * heads * -(-queries // SOFTMAX_QUERIES),)](
        problem.logits,
        lse,
        queries,
        *problem.logits.stride()[:2],
        HEADS=heads,
        SAMPLES=problem.logits[0, 0, 0].numel(),
        BLOCK=SOFTMAX_QUERIES,
        CHUNK=SOFTMAX_CHUNK,
        **OPTIONS,
    )


def forward(problem: Problem, lse: Tensor, out: Tensor) -> None:
    """Fill `out` (B, N, M * D), given `lse`."""
    _launch(
        triton_forward.forward,
        problem,
        (_padded(problem.value), *_places(problem), out, lse),
        per_map=False,
    )


def differentiate(
    problem: Problem,
    lse: Tensor,
    inner: Tensor,
    grad_out: Tensor,
    grad_offsets: Tensor,
    grad_logits: Tensor,
) -> None:
    """Fill the last two, contiguous like offsets and logits; `inner` is <grad_out, out>."""
    read = (_padded(problem.value), *_places(problem), lse, inner, grad_out)
    _launch(triton_backward.differentiate, problem, (*read, grad_offsets, grad_logits))


def scatter(problem: Problem, lse: Tensor, grad_out: Tensor) -> Tensor:
    """The value's gradient, float32 (B, S, M, D), a view; sums come in any order."""
    batch, rows, heads, channels = problem.value.shape
    sums = lse.new_zeros(batch, heads, rows, pitch(channels))
    _launch(triton_backward.scatter, problem, (*_places(problem), lse, grad_out, sums))
    return sums[..., :channels].transpose(1, 2)


def _padded(value: Tensor) -> Tensor:
    """(B, M, S, pitch): head by head, rows ending in zeros so that lanes read 16 bytes each."""
    missing = pitch(value.shape[3]) - value.shape[3]
    return F.pad(value.detach().transpose(1, 2), (0, missing)).contiguous()


def _places(problem: Problem) -> tuple[Tensor, ...]:
    table = _map_table(problem.sizes, problem.value.device)
    return table, problem.reference, problem.offsets, problem.logits


@lru_cache(maxsize=64)
def _map_table(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """int32 (L, 3): height, width and first row of each map; kept, as copying it would wait."""
    shapes = torch.tensor(sizes, dtype=torch.int64).view(-1, 2)
    areas = shapes.prod(1)
    return torch.column_stack((shapes, areas.cumsum(0) - areas)).int().to(device)


def _launch(kernel: Any, problem: Problem, tensors: Sequence[Tensor], per_map: bool = True) -> None:
    _, rows, heads, channels = problem.value.shape
    batch, queries, _, levels, points = problem.logits.shape
    height, width = raster(problem.shapes, queries)
    architecture = _architecture(problem.value.device)
    for cut in cuts(kernel.__name__, channels, problem.value.element_size(), architecture):
        units = batch * heads * (levels if per_map else 1) * tiles(cut, height, width, queries)
        kernel[(units,)](
            *tensors,
            queries,
            height,
            width,
            rows,
            *problem.offsets.stride()[:2],
            *problem.logits.stride()[:2],
            HEADS=heads,
            LEVELS=levels,
            POINTS=points,
            CHANNELS=channels,
            PITCH=pitch(channels),
            FIRST=cut.first,
            BLOCK=cut.block,
            TALL=cut.tall,
            WIDE=cut.wide,
            CLAMP=problem.clamp,
            num_warps=cut.warps,
            **OPTIONS,
        )


def _architecture(device: torch.device) -> int:
    """90 for compute capability 9.0; 0 where there is no such thing."""
    if device.type != "cuda":
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
