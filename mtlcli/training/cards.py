"""Graphics cards by what their maker prints of them, the steps that were measured on one, and the
rule by which others are scaled from those.
"""

from dataclasses import dataclass

from mtlcli import datasets
from mtlcli.recipes._recipe import Recipe, recipe
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


H100 = Card(name="H100 80 GB", gigabytes=80, bandwidth=3.35, half=989, single=494,
            source="NVIDIA's H100 datasheet, SXM")  # fmt: skip
CARDS = (
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
    """A whole training step on the H100 (2026-11-26): the recipe's, in bf16, all at once."""

    recipe: str
    seconds: float
    gigabytes: float


MEASURED = (
    Measured(recipe="nyud/hrnet18/demt", seconds=0.638, gigabytes=13.3),
    Measured(recipe="nyud/hrnet18/multi_task", seconds=0.094, gigabytes=3.2),
)
STEP = (  # options that decide what a step takes: these were as by default, in bf16
    *("amp", "accumulate", "checkpointing", "compile", "crop"),
    *("weighting", "freeze_backbone", "optimizer", "ema"),
)
PER_TENSOR = 37.8e-6  # seconds for each that a step makes: with the next, what MEASURED gives
PRODUCTS = 3.54e14  # operations a second of matrix products and softmax
SAMPLING = 3.42e12  # and of sampling: the operator alone, 28.9 ms a picture at NYUD's size (H200)
IN_SINGLE = 388 / 29.9  # attention in float32 over bf16, the best kernel of each, forward and back


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one iteration takes, all its pictures together."""

    tensors: int  # that are made, see `mtlcli.training.shapes`
    flops: Flops  # forward and backward


def seconds_on(card: Card, work: Work, *, amp: bool) -> float:
    """Of an iteration: matrix products and softmax by the card's peak in them, all else by its
    bandwidth, from the rates of the measured steps; float32 moves twice as much.
    """
    moving = PER_TENSOR * work.tensors + work.flops.sampling / SAMPLING
    products = (work.flops.matmul + work.flops.softmax) / PRODUCTS
    if amp:
        products *= H100.half / card.half
    else:
        products *= IN_SINGLE * H100.single / card.single
        moving *= 2
    return moving * H100.bandwidth / card.bandwidth + products


def find_measured(config: RunConfig) -> Measured | None:
    """The measured step that is the one of these options, if there is one."""
    usual = RunConfig(amp=True)
    if any(getattr(config, name) != getattr(usual, name) for name in STEP):
        return None
    return next((known for known in MEASURED if is_step_of(recipe(known.recipe), config)), None)


def is_step_of(its: Recipe, config: RunConfig) -> bool:
    """Whether a run computes what a recipe does, at the same size."""
    names = ("dataset", "backbone", "system", "batch_size")
    if any(getattr(its, name) != getattr(config, name) for name in names):
        return False
    dataset = datasets.find(its.dataset)
    same = settings.complete(its.system, its.settings) == settings.complete(
        config.system, config.settings
    )
    return same and config.size == dataset.size and {*config.tasks} == {*dataset.tasks}
