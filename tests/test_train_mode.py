"""What happens in training alone: where dropout falls, what an optimiser's step is, labels taken
nearest.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mtlcli import tasks as known_tasks
from mtlcli.data import augment
from mtlcli.data.batches import TrainingStream
from mtlcli.data.moments import IMAGENET
from mtlcli.data.reader import Reader
from mtlcli.maps import map_of
from mtlcli.models.attention import Attention
from mtlcli.models.deformable_attention import DeformableAttention
from mtlcli.models.inter_task_attention import RefinementStep
from mtlcli.models.mqtransformer import PixelDecoder, QueryEncoder, QueryExchange
from mtlcli.models.position import cell_centres
from mtlcli.models.task_pyramid import TaskPyramid
from mtlcli.runs import checkpoint
from mtlcli.runs.config import Conduct, RunConfig
from mtlcli.training.loop import train

WIDTH, T, H, W = 16, 2, 5, 6


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_dropout_falls_on_what_attention_read_and_twice_in_the_feed_forward_block(rate: float):
    """Equations (5) to (7) with the masks that the same seed draws in the same order."""
    torch.manual_seed(0)
    pyramid = TaskPyramid(WIDTH, T, 2)
    step = RefinementStep(WIDTH, pyramid, DeformableAttention(WIDTH, 2 * T), 24, rate).train()
    x = torch.randn(2, T, H, W, WIDTH)
    torch.manual_seed(1)
    found = step(x)
    torch.manual_seed(1)
    queries, reference = x.flatten(1, 3), cell_centres(H, W, x).repeat(T, 1)
    read = step.attention(queries, reference, *pyramid(x))
    added = F.layer_norm(queries + F.dropout(read, rate), (WIDTH,))
    first, last = (layer for layer in step.feedforward.layers if isinstance(layer, nn.Linear))
    hidden = F.dropout(F.relu(first(added)), rate)
    expected = F.layer_norm(added + F.dropout(last(hidden), rate), (WIDTH,))
    torch.testing.assert_close(found, expected.view(x.shape))


def drop_path(x: torch.Tensor, rate: float) -> torch.Tensor:
    """Whole samples are dropped, the others enlarged (stochastic depth)."""
    kept = torch.empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(1 - rate)
    return x * kept / (1 - rate)


def test_mqtransformers_queries_lose_whole_samples_in_training():
    torch.manual_seed(0)
    encoder = QueryEncoder(WIDTH, 4).train()
    queries, code, pixels = (torch.randn(40, n, WIDTH) for n in (3, 3, 7))
    torch.manual_seed(1)
    found = encoder(queries, code, pixels)
    torch.manual_seed(1)
    x = queries + drop_path(encoder.attention(queries + code, pixels, pixels), 0.1)
    x = x + encoder.reason(x)
    torch.testing.assert_close(found, x + drop_path(encoder.mlp(x), 0.1))


def test_mqtransformers_exchange_loses_half_of_the_queries_in_training():
    torch.manual_seed(0)
    exchange = QueryExchange(WIDTH, 4).train()
    assert exchange.attention.dropout == 0.1
    exchange.attention.dropout = 0.0  # its masks are drawn inside torch
    queries = torch.randn(6, T, 3, WIDTH)
    torch.manual_seed(1)
    found = exchange(queries)
    torch.manual_seed(1)
    x = queries.flatten(1, 2)
    x = x + F.dropout1d(exchange.attention(queries, queries).flatten(1, 2), 0.5)
    x = x + F.dropout1d(exchange.mlp(x), 0.5)
    torch.testing.assert_close(found, x.view(queries.shape))


def test_mqtransformers_decoder_loses_whole_samples_in_training():
    torch.manual_seed(0)
    decoder = PixelDecoder(WIDTH, 4, "self", windows=True).train()
    pixels, queries, code = (torch.randn(40, *n, WIDTH) for n in ((4, 5), (3,), (3,)))
    torch.manual_seed(1)
    found = decoder(pixels, queries, code)
    torch.manual_seed(1)
    x = pixels.flatten(1, 2)
    told = x + drop_path(decoder.from_queries(x, queries + code, queries), 0.1)
    told = told + drop_path(decoder.first_mlp(told), 0.1)
    x = x + drop_path(decoder.among_pixels(told[:, None], told[:, None])[:, 0], 0.1)
    x = x + drop_path(decoder.in_windows(x.view(pixels.shape)).flatten(1, 2), 0.1)
    expected = F.gelu(x + drop_path(decoder.second_mlp(x), 0.1))
    torch.testing.assert_close(found, expected.view(pixels.shape))


def test_attention_drops_weights_in_training_alone():
    torch.manual_seed(0)
    attention = Attention(WIDTH, 4, dropout=0.5)
    x = torch.randn(1, T, 9, WIDTH)
    assert attention.eval()(x, x).equal(attention(x, x))
    assert not attention.train()(x, x).equal(attention.eval()(x, x))


class Plane(nn.Module):
    """Depth as a linear function of colour; no batch norm, so that a batch is the sum of its
    samples.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 1)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"depth": self.layer(image)}


STEPS, BATCH = 4, 4
RATE, MOMENTUM, DECAY = 0.05, 0.9, 5e-4  # the last two are the paper's


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_training_is_the_papers_sgd_of_the_whole_batch_however_it_is_split(
    home: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    """Momentum, weight decay and polynomial decay written out, over several steps."""
    monkeypatch.setattr(checkpoint, "build_network", lambda *_: torch.manual_seed(3) and Plane())
    config = RunConfig(
        dataset="rooms", backbone="resnet18_half", init="random", tasks=("depth",), lr=RATE,
        iterations=STEPS, batch_size=BATCH, accumulate=parts, crop=(32, 40),
    )  # fmt: skip
    quiet = Conduct(device="cpu", workers=0, quiet=True)
    folder = train(config, out=home / "run", conduct=quiet)
    trained = checkpoint.read(folder / "last.pt")["network"]

    reader = Reader(home / "datasets" / "rooms.h5", "train", ("depth",))
    stream = TrainingStream(
        reader, known_tasks.named(["depth"]), (32, 40), (1.0, 1.0), config.seed, moments=IMAGENET
    )
    torch.manual_seed(3)
    network = Plane()
    velocity, counts = [torch.zeros_like(p) for p in network.parameters()], []
    for step in range(STEPS):
        samples = [stream[step * BATCH + i] for i in range(BATCH)]
        image, depth = (torch.from_numpy(np.stack([s[k] for s in samples])) for k in
                        ("image", "depth"))  # fmt: skip
        known = depth > 0
        counts.append(known.flatten(1).sum(1).tolist())
        loss = (network(image)["depth"] - depth).abs()[known].mean()
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for p, g, v in zip(network.parameters(), gradients, velocity):
                v.mul_(MOMENTUM).add_(g + DECAY * p)
                p.sub_(RATE * (1 - step / STEPS) ** 0.9 * v)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-4, atol=1e-6)
    assert any(len(set(some)) > 1 for some in counts), "parts with unlike numbers of labels"


STORED = {
    "semseg": np.array([3, 17, 255], np.uint8),
    "human_parts": np.array([1, 5, 255], np.uint8),
    "sal": np.array([0, 1, 255], np.uint8),
    "edge": np.array([0, 255], np.uint8),
    "depth": np.array([0, 1.0, 7.5], np.float32),
    "normals": np.array([[0, 0, 0], [255, 128, 128], [40, 90, 230]], np.uint8),
}


@pytest.mark.parametrize("task", STORED)
def test_labels_are_never_mixtures_of_their_neighbours(task: str) -> None:
    """Whatever the scale, a label is one of those that the picture has (depth over the zoom)."""
    rng = np.random.default_rng(0)
    its, pool = map_of(task), STORED[task]
    label = pool[rng.integers(0, len(pool), (40, 50))]
    sample = {"image": rng.integers(0, 256, (40, 50, 3), np.uint8), task: label}
    known = its.target(np.concatenate([pool[None]] * 2))  # (..., 2, number of labels)
    known = known.reshape(-1, *known.shape[-2:])[:, 0].T  # label, channel
    for seed in range(12):
        view = augment.random_view((40, 50), (32, 32), (1.0, 1.0), np.random.default_rng(seed))
        shown = augment.show(sample, view, {task: its}, IMAGENET)[task]
        found = shown.reshape(-1, shown.shape[-2] * shown.shape[-1]).T.astype(np.float64)
        if task == "depth":
            found = found * view.zoom
        if task == "normals" and view.mirrored:
            found = found * (-1, 1, 1)
        allowed = np.vstack([known, np.full_like(known[:1], its.unlabelled)]).astype(np.float64)
        distance = np.abs(found[:, None] - allowed[None]).max(-1).min(-1)
        assert distance.max() < 1e-4
