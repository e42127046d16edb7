"""Multi-head attention over the pixels of several task maps, with three reaches.

Shapes: B images, T tasks, P pixels of a map, C channels. No reach lets images see each other.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlcli.errors import InputError

Reach = Literal["global", "pixel", "self"]


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
    scores = torch.matmul(q, k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    return torch.matmul(scores.softmax(-1), v).permute(0, 3, 1, 2, 4)
