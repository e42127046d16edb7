"""The deformable attention module (Zhu et al., arXiv 2010.04159) with a gradient scale.

Unusual: offsets and logits come from one linear map, and chosen parameter gradients are multiplied
by a factor (arXiv 2508.04422: lambda), while the gradient that flows on to the input is not.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlcli.errors import InputError
from mtlcli.ops import Border, deformable_attention
from mtlcli.ops.devices import full_precision

APART = ("cuda",)  # types of devices where memory is what the maps of offsets and logits wait for
EVERY = 7  # queries of the first image; all of them would cost as much as the attention
Scope = Literal["offsets", "offsets_and_weights", "module"]


@torch.no_grad()
def offset_spread(
    reference: Tensor, offsets: Tensor, shapes: Sequence[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    """Mean displacement in pixels and share of points outside, per resolution, finest first.

    Args:
        reference: (N, 2), (x, y) in [0, 1].
        offsets: (B, N, M, L, P, 2), (x, y) in pixels of each of the L maps.
        shapes: the maps' (H, W); those of one shape are counted together.

    Returns:
        two float32 tensors (R,), for the R different shapes.
    """
    some = offsets[0, ::EVERY].float()  # n, M, L, P, 2
    size = torch.tensor([(w, h) for h, w in shapes], device=some.device)[:, None]  # L, 1, 2
    place = reference[::EVERY, None, None, None].float() + some / size
    outside = ((place < 0) | (place > 1)).any(-1).float().mean((0, 1, 3))  # L
    pixels = some.norm(dim=-1).mean((0, 1, 3))  # L
    levels = sorted(set(shapes), reverse=True)
    members = [[i for i, shape in enumerate(shapes) if shape == level] for level in levels]
    return (
        torch.stack([pixels[chosen].mean() for chosen in members]),
        torch.stack([outside[chosen].mean() for chosen in members]),
    )


class DeformableAttention(nn.Module):
    """Queries read `points` places around their reference point in each of `maps` maps.

    Args:
        width: C, channels of queries, rows and output.
        maps: how many maps are read.
        heads: heads that share the channels.
        points: places per head and map.
        border: `clamp` or `zeros`, what lies outside a map.
        gradient_scale: factor on parameter gradients (lambda).
        gradient_scope: which ones: the `offsets` projection's, `offsets_and_weights` (the logits'
            too), or those of the whole `module`.

    Raises:
        InputError: an unknown scope or border, or a width that the heads do not divide.
    """

    def __init__(
        self,
        width: int,
        maps: int,
        heads: int = 4,
        points: int = 16,
        border: str = "clamp",
        gradient_scale: float = 1.0,
        gradient_scope: str = "module",
    ) -> None:
        super().__init__()
        if gradient_scope not in get_args(Scope):
            raise InputError(
                f"Gradient scopes are {', '.join(get_args(Scope))}, not '{gradient_scope}'."
            )
        if border not in get_args(Border):
            raise InputError(f"Borders are {', '.join(get_args(Border))}, not '{border}'.")
        if width % heads:
            raise InputError(f"{heads} heads do not divide a width of {width} channels.")
        self.layout = (heads, maps, points)
        self.border, self.gradient_scale = border, gradient_scale
        samples = heads * maps * points
        self.scaled_rows = 2 * samples if gradient_scope == "offsets" else 3 * samples
        self.projection_scale = gradient_scale if gradient_scope == "module" else 1.0
        self.sampling = nn.Linear(width, 3 * samples)  # offsets (x, y), then logits
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.watched = False  # whether the next pass in training leaves its spread in `seen`
        self.seen: tuple[Tensor, Tensor] | None = None
        self._initialise()

    def _initialise(self) -> None:
        """Deformable-DETR's start: uniform weights; head m looks along its own direction."""
        nn.init.zeros_(self.sampling.weight)
        nn.init.zeros_(self.sampling.bias)
        with torch.no_grad():
            self.sampling.bias[: 2 * math.prod(self.layout)] = _rays(*self.layout).flatten()
        for layer in (self.value, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, queries: Tensor, reference: Tensor, rows: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Queries (B, N, C) at `reference` (N, 2) read the rows (B, S, C) of all maps -> (B, N, C).

        `shapes` are the maps' (H, W), `reference` is (x, y) in [0, 1].
        """
        heads, scale = self.layout[0], self.projection_scale
        value = _linear(self.value, rows, scale).unflatten(-1, (heads, -1))  # B, S, M, C / M
        offsets, logits = self.sample(queries)
        if self.watched and self.training:
            self.seen = offset_spread(reference, offsets, shapes)
        out = deformable_attention(value, shapes, reference, offsets, logits, self.border)
        return _linear(self.output, out, scale)

    def sample(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Offsets (B, N, M, L, P, 2) in pixels and logits (B, N, M, L, P), float32 or wider.

        Logits in half precision would save a twelfth of what is moved here, but move the value's
        gradient by more than 1e-4; only their gradients' common tensor is spared, where it pays.
        """
        samples = math.prod(self.layout)
        sizes = (2 * samples, samples)
        with full_precision(queries.device):
            wide = queries.to(torch.promote_types(queries.dtype, torch.float32))
            scaled = (self.gradient_scale, self.scaled_rows)
            if queries.device.type in APART:
                parameters = (p.split(sizes) for p in _parameters(self.sampling, *scaled))
                offsets, logits = (F.linear(wide, *some) for some in zip(*parameters))
            else:
                offsets, logits = _linear(self.sampling, wide, *scaled).split(sizes, -1)
        return offsets.unflatten(-1, (*self.layout, 2)), logits.unflatten(-1, self.layout)


def _rays(heads: int, maps: int, points: int) -> Tensor:
    """(M, L, P, 2): head m's point k lies k + 1 pixels along direction m, largest coordinate 1."""
    angle = torch.arange(heads) * (2 * math.pi / heads)
    direction = torch.stack((angle.cos(), angle.sin()), -1)
    direction = direction / direction.abs().amax(-1, keepdim=True)
    steps = direction[:, None, None] * torch.arange(1, points + 1)[:, None]
    return steps.expand(heads, maps, points, 2)


def _linear(layer: nn.Linear, x: Tensor, scale: float, rows: int | None = None) -> Tensor:
    """The layer, with the gradients of its parameters' first `rows` rows (or all) scaled."""
    if scale == 1.0 or not torch.is_grad_enabled():
        return layer(x)
    return F.linear(x, *_parameters(layer, scale, rows))


def _parameters(layer: nn.Linear, scale: float, rows: int | None) -> tuple[Tensor, Tensor]:
    """Weight and bias of which these rows have scaled gradients."""
    if scale == 1.0:
        return layer.weight, layer.bias
    weight, bias = (_ScaledGradient.apply(p, scale, rows) for p in (layer.weight, layer.bias))
    return weight, bias


class _ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a factor in the first rows."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, factor: float, rows: int | None) -> Tensor:
        ctx.factor, ctx.rows = factor, rows
        return parameter.view_as(parameter)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        scaled = grad.clone()
        scaled[: ctx.rows] *= ctx.factor
        return scaled, None, None
