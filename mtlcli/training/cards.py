"""Graphics cards by what their maker prints of them, the steps that were measured on two, and the
rule by which others are scaled from those.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mtlcli import datasets
from mtlcli.recipes._recipe import recipe
from mtlcli.runs.config import RunConfig
from mtlcli.scoring.cost import Flops
from mtlcli.systems import _settings as settings

GIGABYTE = 10**9


@dataclass(frozen=True, kw_only=True)
class Card:
    """Peak figures, without sparsity."""

    name: str
    gigabytes: int  # of memory
    bandwidth: float  # of that memory, TB/s
    half: float  # matrix products in bfloat16 (T4: float16) summed in float32, TFLOP/s
    single: float  # matrix products in TF32 (T4: float32), TFLOP/s
    source: str


H200 = Card(name="H200 141 GB", gigabytes=141, bandwidth=4.8, half=989, single=494,
            source="NVIDIA's H200 datasheet, SXM")  # fmt: skip
H100 = Card(name="H100 80 GB", gigabytes=80, bandwidth=3.35, half=989, single=494,
            source="NVIDIA's H100 datasheet, SXM")  # fmt: skip
CARDS = (
    H200,
    H100,
    Card(name="A100 80 GB", gigabytes=80, bandwidth=2.039, half=312, single=156,
         source="NVIDIA's A100 datasheet, SXM"),
    Card(name="A100 40 GB", gigabytes=40, bandwidth=1.555, half=312, single=156,
         source="NVIDIA's A100 datasheet, SXM"),
    Card(name="RTX 4090", gigabytes=24, bandwidth=1.008, half=165.2, single=82.6,
         source="NVIDIA's Ada whitepaper"),
    Card(name="RTX 3090", gigabytes=24, bandwidth=0.936, half=71, single=35.6,
         source="NVIDIA's GA102 whitepaper"),
    Card(name="L4", gigabytes=24, bandwidth=0.300, half=121, single=60,
         source="NVIDIA's L4 datasheet, halved where it counts sparsity"),
    Card(name="T4", gigabytes=16, bandwidth=0.300, half=65, single=8.1,
         source="NVIDIA's T4 datasheet"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A training step of a recipe's network, but for `settings`, in bf16, all pictures at once;
    with AdamW, and with the mean square of what it says in place of the losses.
    """

    card: Card
    recipe: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float
    gigabytes: float


MEASURED = (  # 2026-11-26 (H100) and 2026-11-27 (H200: `python tests/gpu/check.py`, steps)
    Measured(card=H100, recipe="nyud/hrnet18/demt", seconds=0.638, gigabytes=13.3),
    Measured(card=H100, recipe="nyud/hrnet18/multi_task", seconds=0.094, gigabytes=3.2),
    Measured(card=H200, recipe="nyud/hrnet18/multi_task", seconds=0.0863, gigabytes=3.2),
    Measured(card=H200, recipe="nyud/hrnet18/demt", seconds=0.642, gigabytes=12.8),
    Measured(card=H200, recipe="nyud/hrnet18/demt_itsa", seconds=0.625, gigabytes=42.9),
    Measured(card=H200, recipe="nyud/hrnet18/demt_itsa", settings={"query": "pixel"},
             seconds=0.422, gigabytes=42.9),
    Measured(card=H200, recipe="nyud/hrnet18/demt_itsa", settings={"query": "deformable"},
             seconds=0.425, gigabytes=48.1),
)  # fmt: skip
STEP = (  # options that decide what a step takes: these were as by default, in bf16
    *("amp", "accumulate", "checkpointing", "compile", "crop"),
    *("weighting", "freeze_backbone", "optimizer", "ema"),
)
# Three rates, fitted to MEASURED by least squares of relative errors, which are at most 4.1 %:
PER_TENSOR = 29.4e-6  # seconds of the processor for each that a step makes, on every card alike
MOVED = 9.6  # times that each byte of them goes through memory at its peak bandwidth
PRODUCTS = 4.31e14  # operations a second of matrix products and softmax, of 989e12 at the peak
IN_SINGLE = 384.4 / 30.17  # attention in float32 over bf16, the best kernels, forward and back


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one iteration takes, all its pictures together."""

    tensors: int  # that are made, see `mtlcli.training.shapes`
    made: int  # bytes of these
    flops: Flops  # forward and backward


def seconds_on(card: Card, work: Work, *, amp: bool) -> float:
    """Of an iteration: a time for each tensor, their bytes by the card's bandwidth, matrix products
    and softmax by its peak in them.
    """
    waiting = PER_TENSOR * work.tensors
    moving = MOVED * work.made / (card.bandwidth * 1e12)
    products = (work.flops.matmul + work.flops.softmax) / PRODUCTS
    if amp:
        products *= H200.half / card.half
    else:
        products *= IN_SINGLE * H200.single / card.single
    return waiting + moving + products


def find_measured(config: RunConfig) -> list[Measured]:
    """The measured steps that are the one of these options, one a card at most."""
    usual = RunConfig(amp=True)
    if any(getattr(config, name) != getattr(usual, name) for name in STEP):
        return []
    return [known for known in MEASURED if is_step_of(known, config)]


def is_step_of(known: Measured, config: RunConfig) -> bool:
    """Whether a run computes what was measured, at the same size."""
    its = recipe(known.recipe)
    names = ("dataset", "backbone", "system", "batch_size")
    if any(getattr(its, name) != getattr(config, name) for name in names):
        return False
    dataset = datasets.find(its.dataset)
    same = settings.complete(its.system, {**its.settings, **known.settings}) == settings.complete(
        config.system, config.settings
    )
    return same and config.size == dataset.size and {*config.tasks} == {*dataset.tasks}
