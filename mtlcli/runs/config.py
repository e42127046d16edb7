"""The options of a run: all that decides what it computes, and how it is carried out."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from mtlcli.errors import InputError
from mtlcli.files import require_fitting

MOST_WORKERS = 1024
MOST_PICTURES = 100_000  # of a batch
MOST_PIXELS = 100_000_000  # of a training sample
OPTIMIZER = Literal["sgd", "adamw"]


def option(default: Any, help: str, *, moves_scores: bool = True) -> Any:
    """A field that is an option of `mtl train`, with its help.

    Args:
        default: of the option and the field.
        help: a sentence.
        moves_scores: whether a run in which it differs from a recipe is not the recipe's.
    """
    return field(default=default, metadata={"help": help, "moves_scores": moves_scores})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All that decides what a run computes; the defaults are the paper's recipe (section 4).

    Every field but `settings` is an option of `mtl train`.
    """

    recipe: str = option(
        "", "A published run, see `mtl recipes`; other options override.", moves_scores=False
    )
    dataset: str = option("nyud", "Name of a prepared dataset.")
    system: str = option("demt_itsa", "Network: see `mtl systems`.")
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the system; else its defaults
    backbone: str = option("hrnet18", "Encoder: see mtlcli/backbones.")
    init: str = option(
        "imagenet", "Backbone weights: imagenet, imagenet22k or ade20k (Swin), random or a file."
    )
    tasks: tuple[str, ...] = option((), "Repeat for a subset of tasks.")  # (): the dataset's
    iterations: int = option(40_000, "Optimiser steps.")
    batch_size: int = option(8, "Images per step.")
    size: tuple[int, int] | None = option(None, "Working resolution; default: the dataset's.")
    crop: tuple[int, int] | None = option(None, "Train on windows of this height and width.")
    optimizer: OPTIMIZER = option(
        "sgd", "sgd is the paper's; adamw learns sooner from random weights."
    )
    lr: float = option(1e-3, "Learning rate at the start.")
    momentum: float = option(0.9, "Of sgd.")
    weight_decay: float = option(5e-4, "On all parameters.")
    power: float = option(0.9, "Of the polynomial decay of the learning rate.")
    seed: int = option(0, "Of weights, order and augmentation.", moves_scores=False)
    amp: bool | None = option(None, "Half precision; on by default on CUDA.")
    accumulate: int = option(1, "Passes a batch is split into, for less memory.")
    checkpointing: bool = option(
        False, "Less memory: compute activations twice.", moves_scores=False
    )
    compile: bool = option(False, "Use torch.compile.", moves_scores=False)
    deterministic: bool = option(
        False, "The same bits every time, also on CUDA.", moves_scores=False
    )
    holdout: float = option(0.0, "Share of the training images that choose best.pt.")
    weighting: str = option(
        "fixed",
        "Of losses: fixed is the paper's; see mtlcli/training/weightings.py for the others.",
    )

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"--{name.replace('_', '-')} must be a number, not {value}.")
        for name in ("iterations", "batch_size", "lr"):
            value = getattr(self, name)
            if not value > 0 or value == float("inf"):
                raise InputError(f"--{name.replace('_', '-')} must be positive, not {value}.")
        for name in ("weight_decay", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"--{name.replace('_', '-')} must not be negative.")
        if self.optimizer not in get_args(OPTIMIZER):
            known = ", ".join(get_args(OPTIMIZER))
            raise InputError(f"--optimizer {self.optimizer}: known are {known}.")
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise InputError(
                f"--accumulate {self.accumulate} does not divide --batch-size {self.batch_size}."
            )
        if not 0 <= self.holdout <= 0.5:
            raise InputError(f"--holdout {self.holdout} is a share between 0 and 0.5.")
        if self.compile and self.checkpointing:
            raise InputError("--compile and --checkpointing exclude each other: choose one.")
        if self.batch_size > MOST_PICTURES:
            raise InputError(f"--batch-size {self.batch_size}: at most {MOST_PICTURES}.")
        for name, size in (("size", self.size), ("crop", self.crop)):
            if size is not None and size[0] * size[1] > MOST_PIXELS:
                raise InputError(f"--{name} {size[0]} {size[1]}: at most {MOST_PIXELS} pixels.")
            if size is not None and min(size) < 32:
                raise InputError(f"--{name} {size[0]} {size[1]}: both must be at least 32 pixels.")

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of a training sample, once the size is known."""
        if self.crop or self.size:
            return self.crop or self.size  # type: ignore[return-value]
        raise ValueError("The run has no size yet.")

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return asdict(self) | {"settings": dict(self.settings)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "RunConfig":
        """The inverse of `to_json`."""
        require_fitting(cls, record)
        pairs = {name: record.get(name) for name in ("size", "crop")}
        sizes = {name: pair and (pair[0], pair[1]) for name, pair in pairs.items()}
        return cls(**{**record, **sizes, "tasks": tuple(record.get("tasks", ()))})


def spell(value: Any) -> str:
    """A value as it is typed: tuples and lists alike, separated by spaces."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def resolution(config: RunConfig, stored: tuple[int, int]) -> tuple[float, float]:
    """Working pixels per stored pixel along y and x: the run's size over that of the dataset."""
    assert config.size is not None
    return config.size[0] / stored[0], config.size[1] / stored[1]


@dataclass(frozen=True, kw_only=True)
class Conduct:
    """What decides where and how fast a run goes, but not what it computes."""

    device: str | None = None  # auto, cpu, cuda or mps; None: that of the run, or auto
    workers: int = field(default=2, metadata={"help": "Processes that prepare batches.", "min": 0})
    checkpoint_every: int = field(default=500, metadata={"help": "Iterations between checkpoints."})
    keep: int = field(default=0, metadata={"help": "Newest checkpoints that stay beside last.pt."})
    tensorboard: bool = field(
        default=False, metadata={"help": "Also write RUN/tensorboard (extra [tb])."}
    )
    quiet: bool = field(default=False, metadata={"help": "No progress bars."})

    def __post_init__(self) -> None:
        if self.checkpoint_every < 1:
            raise InputError(f"--checkpoint-every must be positive, not {self.checkpoint_every}.")
        if not 0 <= self.workers <= MOST_WORKERS:
            raise InputError(f"--workers {self.workers}: 0 to {MOST_WORKERS}.")
        if self.keep < 0:
            raise InputError(f"--keep must not be negative, not {self.keep}.")


USUAL = Conduct()
