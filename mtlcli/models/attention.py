"""Multi-head attention over the pixels of task maps: three reaches, normed, or in windows.

Shapes: B images, T tasks, P pixels of a map, C channels. No reach lets images see each other.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlcli.errors import InputError

Reach = Literal["global", "pixel", "self"]


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


class Attention(nn.Module):
    """Multi-head attention with the parameters of `nn.MultiheadAttention`.

    Args:
        width: C.
        heads: how many heads share the channels.
        reach: what a query sees. `global`: all pixels of all tasks (Vaswani et al. 2017, through
            `scaled_dot_product_attention`). `pixel`: the tasks at its own pixel. `self`: only
            its own token, so that a linear map remains.
        dropout: of attention weights in training, with `global` reach.

    Raises:
        InputError: an unknown reach, or a width that the heads do not divide.
    """

    def __init__(self, width: int, heads: int, reach: str = "global", dropout: float = 0.0) -> None:
        super().__init__()
        if reach not in get_args(Reach):
            raise InputError(f"Attention reaches are {', '.join(get_args(Reach))}, not '{reach}'.")
        if width % heads:
            raise InputError(f"{heads} heads do not divide a width of {width} channels.")
        self.heads, self.reach, self.dropout = heads, reach, dropout
        self.input = nn.Linear(width, 3 * width)  # query, key, value
        self.output = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.input.weight)
        nn.init.zeros_(self.input.bias)
        nn.init.zeros_(self.output.bias)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Queries (B, T', P, C) and memory (B, T, P, C) -> (B, T', P, C)."""
        width = queries.shape[-1]
        weight, bias = self.input.weight, self.input.bias
        if self.reach == "self":
            return self.output(F.linear(memory, weight[2 * width :], bias[2 * width :]))
        q = F.linear(queries, weight[:width], bias[:width])
        k, v = F.linear(memory, weight[width:], bias[width:]).chunk(2, -1)
        q, k, v = (x.unflatten(-1, (self.heads, -1)) for x in (q, k, v))
        if self.reach == "pixel":
            found = _attend_per_pixel(q, k, v)
        else:
            found = _attend_globally(q, k, v, self.dropout if self.training else 0.0)
        return self.output(found.reshape(queries.shape))


def _attend_globally(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """Queries (B, T', P, heads, C / heads), keys and values with T tasks -> as the queries."""
    q, k, v = (x.flatten(1, 2).transpose(1, 2) for x in (q, k, v))  # B, heads, T * P, C / heads
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2)


def _attend_per_pixel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same shapes; the matrix per pixel is only tasks x tasks."""
    q, k, v = (x.permute(0, 2, 3, 1, 4) for x in (q, k, v))  # B, P, heads, T, C / heads
    if q.shape[3] == 1 and torch.compiler.is_exporting():  # runtimes are slow at matrices of a row
        share = ((q * k).sum(-1) * q.shape[-1] ** -0.5).softmax(-1)
        return (share[..., None] * v).sum(3, keepdim=True).permute(0, 3, 1, 2, 4)
    scores = torch.matmul(q, k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    return torch.matmul(scores.softmax(-1), v).permute(0, 3, 1, 2, 4)
