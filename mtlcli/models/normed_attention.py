"""Attention with a LayerNorm on each input, and its form in small windows (ViP, MQTransformer).

Shapes: B images, (H, W) a map, C channels, N queries, K keys, w the side of a window.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NormedAttention(nn.Module):
    """Multi-head attention whose queries, keys and values are normed one by one."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.inputs = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(3))
        self.output = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(B, N, C), (B, K, C), (B, K, C) -> (B, N, C)."""
        q, k, v = self.project(queries, keys, values)
        return self.merge(F.scaled_dot_product_attention(q, k, v))

    def project(self, *inputs: Tensor) -> list[Tensor]:
        """Queries, keys, values (B, N, C) -> (B, heads, N, C / heads) each."""
        layers = zip(self.norms, self.inputs, inputs)
        return [
            linear(norm(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for norm, linear, x in layers
        ]

    def merge(self, x: Tensor) -> Tensor:
        """(B, heads, N, C / heads) -> (B, N, C)."""
        return self.output(x.transpose(1, 2).flatten(2))


class WindowAttention(nn.Module):
    """Attention inside windows of w x w pixels, with learned codes of relative rows and columns.

    The first half of each head's query channels meets the row codes, the second the column codes
    (Sun et al., ViP, arXiv 2107.05790). Pixels that pad the map to whole windows are not seen.
    """

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.attention = NormedAttention(width, heads)
        half = width // heads // 2
        self.rows = nn.Parameter(torch.empty(2 * side - 1, half))
        self.columns = nn.Parameter(torch.empty(2 * side - 1, half))
        for codes in (self.rows, self.columns):
            nn.init.trunc_normal_(codes, std=0.02)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        _, height, width, _ = x_BHWC.shape
        below, right = -height % self.side, -width % self.side
        windows = _cut(F.pad(x_BHWC, (0, 0, 0, right, 0, below)), self.side)
        real = _cut(
            F.pad(x_BHWC.new_ones(1, height, width, 1), (0, 0, 0, right, 0, below)), self.side
        )

        x = windows.flatten(0, 1)  # B * windows, w * w, C
        q, k, v = self.attention.project(x, x, x)
        scores = (q @ k.transpose(-1, -2) + self._relative(q)) * q.shape[-1] ** -0.5
        scores = scores.unflatten(0, windows.shape[:2])
        scores = scores.masked_fill(real[..., 0][:, :, None, None] == 0, -torch.inf)
        found = self.attention.merge(scores.flatten(0, 1).softmax(-1) @ v).view(windows.shape)
        return _join(found, height + below, width + right, self.side)[:, :height, :width]

    def _relative(self, q: Tensor) -> Tensor:
        """Queries (B, heads, w * w, C / heads) -> scores of places (B, heads, w * w, w * w)."""
        side = self.side
        place = torch.arange(side, device=q.device)
        step = place - place[:, None] + side - 1  # query, key
        by_row, by_column = q.unflatten(2, (side, side)).chunk(2, -1)
        rows = torch.einsum("bmhwc,hkc->bmhwk", by_row, self.rows[step])
        columns = torch.einsum("bmhwc,wkc->bmhwk", by_column, self.columns[step])
        return (rows[..., None] + columns[..., None, :]).flatten(4).flatten(2, 3)


def _cut(x_BHWC: Tensor, side: int) -> Tensor:
    """(B, windows, side * side, C)."""
    x = x_BHWC.unflatten(2, (-1, side)).unflatten(1, (-1, side))  # B, rows, w, columns, w, C
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _join(windows: Tensor, height: int, width: int, side: int) -> Tensor:
    """The inverse of `_cut`."""
    x = windows.unflatten(2, (side, side)).unflatten(1, (height // side, width // side))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
