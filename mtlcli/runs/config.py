"""The record of a run: all that decides what it computes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mtlcli.errors import InputError

OPTIMIZERS = ("sgd", "adamw")
ASIDE = {"moves_scores": False}  # metadata of a field in which a run may differ from its recipe


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All that decides what a run computes; the defaults are the paper's recipe (section 4).

    Every field moves scores but those marked `ASIDE`: a run in which it differs from a recipe is
    not the recipe's (see `mtlcli.runs.departures`).
    """

    dataset: str = "nyud"
    tasks: tuple[str, ...] = ()  # () at the command line: all of the dataset
    system: str = "demt_itsa"
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the system; else its defaults
    backbone: str = "hrnet18"
    init: str = "imagenet"  # where the backbone's weights come from: a name or a file
    size: tuple[int, int] | None = None  # working resolution; None: the dataset's
    crop: tuple[int, int] | None = None  # what training sees of a picture at it; None: `size`
    iterations: int = 40_000
    batch_size: int = 8
    optimizer: str = "sgd"  # or "adamw", which learns sooner from random weights
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    power: float = 0.9  # of the polynomial decay of the learning rate
    seed: int = field(default=0, metadata=ASIDE)
    amp: bool | None = None  # half precision; None at the command line: on CUDA devices only
    accumulate: int = 1  # passes that a batch is split into, for less memory
    # Compute activations again instead of keeping them.
    checkpointing: bool = field(default=False, metadata=ASIDE)
    compile: bool = field(default=False, metadata=ASIDE)  # let torch.compile fuse the network
    # Only algorithms that give the same bits every time.
    deterministic: bool = field(default=False, metadata=ASIDE)
    holdout: float = 0.0  # share of the training pictures that choose best.pt
    weighting: str = "fixed"  # how the tasks' losses become one, see mtlcli/training/weighting.py
    recipe: str = field(default="", metadata=ASIDE)  # the recipe it was made by, see mtlcli/recipes

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_size", "lr"):
            value = getattr(self, name)
            if not value > 0 or value == float("inf"):
                raise InputError(f"--{name.replace('_', '-')} must be positive, not {value}.")
        for name in ("weight_decay", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"--{name.replace('_', '-')} must not be negative.")
        if self.optimizer not in OPTIMIZERS:
            known = ", ".join(OPTIMIZERS)
            raise InputError(f"--optimizer {self.optimizer}: known are {known}.")
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise InputError(
                f"--accumulate {self.accumulate} does not divide --batch-size {self.batch_size}."
            )
        if not 0 <= self.holdout <= 0.5:
            raise InputError(f"--holdout {self.holdout} is a share between 0 and 0.5.")
        if self.compile and self.checkpointing:
            raise InputError("--compile and --checkpointing exclude each other: choose one.")
        for name, size in (("size", self.size), ("crop", self.crop)):
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
        pairs = {name: record.get(name) for name in ("size", "crop")}
        sizes = {name: pair and (pair[0], pair[1]) for name, pair in pairs.items()}
        return cls(**{**record, **sizes, "tasks": tuple(record["tasks"])})


def spell(value: Any) -> str:
    """A value as it is typed: tuples and lists alike, separated by spaces."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def resolution(config: RunConfig, dataset: Mapping[str, Any]) -> tuple[float, float]:
    """Working pixels per stored pixel along y and x: the run's size over the dataset's."""
    assert config.size is not None
    return config.size[0] / dataset["size"][0], config.size[1] / dataset["size"][1]
