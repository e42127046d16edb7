"""MQTransformer's decoder (Xu et al., arXiv 2205.14354): each task has a few learned queries.

The queries gather from the task's pixels, speak with the other tasks' queries, and hand back to
the pixels; encoder and decoder are the same for all tasks. As in the released head except:
attention never runs along the batch; the patch embedding, whose result was not used, is gone; the
window attention that the released decoder builds and never calls is called (`windows`).
Shapes: B images, T tasks, (H, W) the finest backbone map, P its pixels, C channels, Q queries.
"""

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from mtlcli.models.attention import Attention, NormedAttention, WindowAttention

DROP_PATH = 0.1
QUERY_DROP = 0.5
WINDOW = 4


class MultiQueryDecoder(nn.Module):
    """Backbone features -> one map per task.

    Args:
        inputs: channels of the hypercolumn.
        tasks: T.
        width: C.
        queries: Q, learned queries of each task.
        heads: attention heads.
        reach: what a pixel sees when a task's pixels attend to each other: `global` or `self`.
        windows: also attend in windows of 4x4 pixels.
    """

    def __init__(
        self,
        inputs: int,
        tasks: int,
        width: int,
        queries: int,
        heads: int,
        reach: str,
        windows: bool,
    ) -> None:
        super().__init__()
        self.projections = nn.ModuleList(nn.Linear(inputs, width) for _ in range(tasks))
        self.queries = nn.Parameter(torch.empty(tasks, queries, width))
        self.query_code = nn.Parameter(torch.empty(tasks, queries, width // heads))
        self.key_code = nn.Parameter(torch.empty(tasks, queries, width // heads))
        for parameter in (self.queries, self.query_code, self.key_code):
            nn.init.trunc_normal_(parameter, std=0.02)
        self.encoder = QueryEncoder(width, heads)
        self.exchange = QueryExchange(width, heads)
        self.decoder = PixelDecoder(width, heads, reach, windows)
        self.heads = heads

    def forward(self, features: Tensor) -> list[Tensor]:
        """(B, inputs, H, W) -> T maps (B, C, H, W)."""
        channels_last = features.permute(0, 2, 3, 1)
        x = torch.stack([project(channels_last) for project in self.projections], 1)
        batch, tasks = x.shape[:2]

        def of_each_task(parameter: Tensor) -> Tensor:
            return parameter.expand(batch, *parameter.shape).flatten(0, 1)  # B * T, Q, C

        pixels = x.flatten(0, 1)  # B * T, H, W, C
        query_code, key_code = (
            of_each_task(code.repeat(1, 1, self.heads)) for code in (self.query_code, self.key_code)
        )
        queries = self.encoder(of_each_task(self.queries), query_code, pixels.flatten(1, 2))
        queries = self.exchange(queries.unflatten(0, (batch, tasks))).flatten(0, 1)
        found = self.decoder(pixels, queries, key_code).view(x.shape)
        return list(found.permute(0, 1, 4, 2, 3).unbind(1))


class QueryEncoder(nn.Module):
    """A task's queries gather from its pixels."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = NormedAttention(width, heads)
        self.reason = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width, bias=False))
        self.mlp = _mlp(width, width)
        self.drop = StochasticDepth(DROP_PATH, "row")

    def forward(self, queries: Tensor, code: Tensor, pixels: Tensor) -> Tensor:
        """(B, Q, C), (B, Q, C), (B, P, C) -> (B, Q, C)."""
        x = queries + self.drop(self.attention(queries + code, pixels, pixels))
        x = x + self.reason(x)
        return x + self.drop(self.mlp(x))


class QueryExchange(nn.Module):
    """The queries of all tasks attend to each other; whole queries are dropped in training."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout=0.1)
        self.mlp = nn.Sequential(nn.LayerNorm(width), _mlp(width, width))
        self.drop = nn.Dropout1d(QUERY_DROP)

    def forward(self, queries: Tensor) -> Tensor:
        """(B, T, Q, C) -> the same shape."""
        x = queries.flatten(1, 2)
        found = self.attention(queries, queries).flatten(1, 2)
        x = x + self.drop(found)
        return (x + self.drop(self.mlp(x))).view(queries.shape)


class PixelDecoder(nn.Module):
    """A task's pixels read its queries, then each other.

    As released, the second part starts from the pixels themselves, not from the first part's sum.
    """

    def __init__(self, width: int, heads: int, reach: str, windows: bool) -> None:
        super().__init__()
        self.from_queries = NormedAttention(width, heads)
        self.first_mlp = _mlp(width, 3 * width)
        self.among_pixels = Attention(width, heads, reach)
        self.in_windows = WindowAttention(width, heads, WINDOW) if windows else None
        self.second_mlp = _mlp(width, 3 * width)
        self.drop = StochasticDepth(DROP_PATH, "row")
        self.activation = nn.GELU()

    def forward(self, pixels: Tensor, queries: Tensor, code: Tensor) -> Tensor:
        """(B, H, W, C), (B, Q, C), (B, Q, C) -> (B, H, W, C)."""
        x = pixels.flatten(1, 2)
        told = x + self.drop(self.from_queries(x, queries + code, queries))
        told = told + self.drop(self.first_mlp(told))
        x = x + self.drop(self.among_pixels(told[:, None], told[:, None])[:, 0])
        if self.in_windows is not None:
            x = x + self.drop(self.in_windows(x.view(pixels.shape)).flatten(1, 2))
        return self.activation(x + self.drop(self.second_mlp(x))).view(pixels.shape)


def _mlp(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
    )
