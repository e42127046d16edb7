"""The options of a run: all that decides what it computes, and how it is carried out."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from math import inf, isfinite
from typing import Any, Literal, get_args

from mtlcli.data.moments import IMAGENET, Moments, Triple
from mtlcli.errors import InputError
from mtlcli.files import require_fitting
from mtlcli.systems._settings import flag

MOST_WORKERS = 1024
MOST_PICTURES = 100_000  # of a batch
MOST_PIXELS = 100_000_000  # of a training sample
OPTIMIZER = Literal["sgd", "adamw"]
SCHEDULE = Literal["poly", "cosine"]
LOGGER = Literal["none", "tensorboard", "wandb"]
AUTO = -1  # a batch size that is yet to be found
LEAST_ZOOM = 0.1  # of a training picture; its inverse is the most
LARGEST_SEED = 2**64 - 1  # that torch takes
INHERITED = "from"  # as --init: the backbone's weights are those of the run that --from names


def option(default: Any, help: str, *, moves_scores: bool = True, **typing: Any) -> Any:
    """A field that is an option of `mtl train`, with its help.

    Args:
        default: of the option and the field.
        help: a sentence.
        moves_scores: whether a run in which it differs from a recipe is not the recipe's.
        typing: how it is typed, see `mtlcli.commands._fields`.
    """
    return field(default=default, metadata={"help": help, "moves_scores": moves_scores} | typing)


def read_batch_size(given: Any) -> int:
    """Images per step, or AUTO for the word auto.

    Raises:
        InputError: it is neither.
    """
    if given == "auto":
        return AUTO
    try:
        number = int(given)
        if isinstance(given, bool | float):
            raise ValueError("no count")
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"--batch-size {given}: needs a number of images, or auto.") from error
    if number < 1:
        raise InputError(f"--batch-size must be positive, not {number}.")
    return number


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
    backbone: str = option("hrnet18", "Encoder: see `mtl backbones`.")
    init: str | None = option(
        None,
        "Backbone weights: imagenet, imagenet22k or ade20k (Swin), pretrained (timm's), random or "
        "a file; default: imagenet, or timm's.",
    )
    mean: Triple | None = option(None, "Of the input, in 0 to 1; default: the backbone's.")
    deviation: Triple | None = option(None, "Of the input; default: the backbone's.")
    from_run: str = option(
        "",
        "Begin with this run's weights, wherever name and shape fit: its name, folder or file, or "
        "hf:USER/REPO. Without options of your own also its system, settings and backbone, and on "
        "its dataset its tasks, size and crop.",
        flag="from",
    )
    tasks: tuple[str, ...] = option((), "Repeat for a subset of tasks.")  # (): the dataset's
    iterations: int = option(40_000, "Optimiser steps.")
    batch_size: int = option(
        8,
        "Images per step; auto: as many as memory holds.",
        parser=read_batch_size,
        metavar="<int|auto>",
    )
    size: tuple[int, int] | None = option(None, "Working resolution; default: the dataset's.")
    crop: tuple[int, int] | None = option(None, "Train on windows of this height and width.")
    zoom: tuple[float, float] | None = option(
        None, "Smallest and largest random scale of a training picture; default: 0.5 2."
    )
    optimizer: OPTIMIZER = option(
        "sgd", "sgd is the paper's; adamw learns sooner from random weights."
    )
    lr: float = option(1e-3, "Learning rate at the start.")
    momentum: float = option(0.9, "Of sgd.")
    weight_decay: float = option(5e-4, "On all parameters.")
    backbone_lr_factor: float = option(1.0, "Learning rate of the backbone over that of the rest.")
    freeze_backbone: bool = option(
        False, "Leave the backbone as it is, the statistics of its batch normalisation too."
    )
    warmup: int = option(0, "First iterations, in which the learning rate rises linearly.")
    schedule: SCHEDULE = option("poly", "How the learning rate falls to 0 after --warmup.")
    power: float = option(0.9, "Of --schedule poly.")
    clip: float | None = option(None, "Largest norm of the network's gradient; longer ones shrink.")
    ema: float | None = option(
        None, "Decay of a moving average of the weights, which is then what is scored; try 0.999."
    )
    seed: int = option(0, "Of weights, order and augmentation.", moves_scores=False)
    amp: bool | None = option(None, "Half precision; on by default on CUDA, but not of a recipe.")
    accumulate: int = option(1, "Passes a batch is split into, for less memory.")
    checkpointing: bool = option(
        False, "Less memory: compute activations twice.", moves_scores=False
    )
    compile: bool = option(False, "Use torch.compile.", moves_scores=False)
    deterministic: bool = option(
        False, "The same bits every time, also on CUDA.", moves_scores=False
    )
    holdout: float = option(0.0, "Share of the training images that choose best.pt.")
    val_every: int | None = option(
        None,
        "Iterations between scores of the held-out images, of val without --holdout; default: 20 "
        "times a run with --holdout.",
    )
    patience: int | None = option(
        None, "Stop after so many scores of the held-out images without a better one."
    )
    weighting: str = option(
        "fixed",
        "Of losses: fixed is the paper's; see mtlcli/training/weightings.py for the others.",
    )

    def __post_init__(self) -> None:
        if self.batch_size != AUTO:
            object.__setattr__(self, "batch_size", read_batch_size(self.batch_size))
        for name, value in vars(self).items():
            if isinstance(value, float) and not isfinite(value):
                raise InputError(f"{flag(name)} must be a number, not {value}.")
        for name in ("iterations", "lr", "backbone_lr_factor", "clip", "val_every", "patience"):
            value = getattr(self, name)
            if value is not None and not 0 < value < inf:
                raise InputError(f"{flag(name)} must be positive, not {value}.")
        for name in ("momentum", "weight_decay", "seed", "warmup", "power"):
            value = getattr(self, name)
            if not 0 <= value < inf:
                raise InputError(f"{flag(name)} must not be negative, not {value}.")
        if self.seed > LARGEST_SEED:
            raise InputError(f"--seed {self.seed}: must be at most {LARGEST_SEED}.")
        for name, value in (
            *((name, getattr(self, name)) for name in ("dataset", "system", "backbone")),
            *(("task", task) for task in self.tasks),
        ):
            require_name(name, value)
        for name, choices in (("optimizer", OPTIMIZER), ("schedule", SCHEDULE)):
            if getattr(self, name) not in get_args(choices):
                known = ", ".join(get_args(choices))
                raise InputError(f"{flag(name)} {getattr(self, name)}: known are {known}.")
        if self.accumulate < 1:
            raise InputError(f"--accumulate {self.accumulate}: it must be positive.")
        if not 0 <= self.holdout <= 0.5:
            raise InputError(f"--holdout {self.holdout} is a share between 0 and 0.5.")
        if self.batch_size > MOST_PICTURES:
            raise InputError(f"--batch-size {self.batch_size}: at most {MOST_PICTURES}.")
        if self.ema is not None and not 0 < self.ema < 1:
            raise InputError(f"--ema {self.ema} is a decay between 0 and 1, as 0.999.")
        if self.init == INHERITED and not self.from_run:
            raise InputError(f"--init {INHERITED} means the weights of a run: name it with --from.")
        check_triple("mean", self.mean, lambda value: 0 <= value <= 1, "in 0 to 1")
        check_triple("deviation", self.deviation, lambda value: 0 < value < inf, "above 0")
        for name, size in (("size", self.size), ("crop", self.crop)):
            if size is not None and size[0] * size[1] > MOST_PIXELS:
                raise InputError(f"--{name} {size[0]} {size[1]}: at most {MOST_PIXELS} pixels.")
            if size is not None and min(size) < 32:
                raise InputError(f"--{name} {size[0]} {size[1]}: both must be at least 32 pixels.")
        if self.zoom and not LEAST_ZOOM <= self.zoom[0] <= self.zoom[1] <= 1 / LEAST_ZOOM:
            raise InputError(
                f"--zoom {spell(self.zoom)}: the smallest scale, then the largest, between "
                f"{LEAST_ZOOM:g} and {1 / LEAST_ZOOM:g}."
            )
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        if self.batch_size != AUTO and self.batch_size % self.accumulate:
            raise InputError(
                f"--accumulate {self.accumulate} does not divide --batch-size {self.batch_size}."
            )
        if self.compile and self.checkpointing:
            raise InputError("--compile and --checkpointing exclude each other: choose one.")
        if self.freeze_backbone and self.backbone_lr_factor != 1:
            raise InputError(
                f"--backbone-lr-factor {self.backbone_lr_factor:g} is of a backbone that learns, "
                "which --freeze-backbone excludes: choose one."
            )
        if self.warmup >= self.iterations:
            raise InputError(
                f"--warmup {self.warmup} leaves nothing of --iterations {self.iterations}."
            )
        if self.schedule != "poly" and self.power != type(self).power:
            raise InputError(f"--power {self.power:g} is of --schedule poly: leave it out.")
        if self.optimizer != "sgd" and self.momentum != type(self).momentum:
            raise InputError(f"--momentum {self.momentum:g} is of --optimizer sgd: leave it out.")
        if self.patience is not None and not self.holdout:
            raise InputError(
                f"--patience {self.patience} counts scores of held-out images, and there are none: "
                "add --holdout 0.05 (scores of val are for `mtl eval` and choose nothing)."
            )

    @property
    def may_accumulate(self) -> bool:
        """Whether its batches may be passed in more parts: other weightings need the whole."""
        return self.weighting == "fixed"

    @property
    def may_recompute(self) -> bool:
        """Whether --checkpointing can still be added."""
        return not (self.checkpointing or self.compile)

    @property
    def moments(self) -> Moments:
        """Mean and deviation of the input; ImageNet's where an old record says nothing."""
        return self.mean or IMAGENET[0], self.deviation or IMAGENET[1]

    @property
    def beginning(self) -> str:
        """What it starts from, in words."""
        return f"the weights of {self.from_run}" if self.from_run else f"{self.init} weights"

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
        given = {name: record.get(name) for name in ("size", "crop", "zoom", "mean", "deviation")}
        rows = {name: row and tuple(row) for name, row in given.items()}
        return cls(**{**record, **rows, "tasks": tuple(record.get("tasks", ()))})


def check_triple(
    name: str, given: Triple | None, fits: Callable[[float], bool], meaning: str
) -> None:
    """Refuses an option of three numbers, red, green and blue, that are not what it means.

    Raises:
        InputError: names the option and the values.
    """
    if given is not None and not (len(given) == 3 and all(map(fits, given))):
        raise InputError(f"--{name} {spell(given)}: must be three numbers {meaning}.")


def require_name(option: str, value: Any) -> None:
    """Refuse what would lead out of a folder, as part of a path; options come from strangers' files
    too.

    Raises:
        InputError: names the option.
    """
    plain = isinstance(value, str) and value.isprintable() and not {*value} & {*"/\\"}
    if not plain or value.startswith(".") or not value:
        raise InputError(
            f"--{option} {value!r} is no name: it is empty, or leads to another folder."
        )


def spell(value: Any) -> str:
    """A value as it is typed: tuples and lists alike, separated by spaces; no text is `none`."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value) or "none"


def typed_name(option: str) -> str:
    """What a field of `RunConfig` is called by users, and so a setting of a system."""
    flags = {f.name: str(f.metadata.get("flag", "")) for f in fields(RunConfig)}
    return flags.get(option) or option


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
    logger: LOGGER | None = field(  # None: that of the run, or none
        default=None,
        metadata={"help": "Also log to RUN/tensorboard (extra [tb]) or wandb (extra [wandb])."},
    )
    tensorboard: bool = field(default=False, metadata={"help": "The same as --logger tensorboard."})
    quiet: bool = field(default=False, metadata={"help": "No progress bars."})

    def __post_init__(self) -> None:
        if self.checkpoint_every < 1:
            raise InputError(f"--checkpoint-every must be positive, not {self.checkpoint_every}.")
        if not 0 <= self.workers <= MOST_WORKERS:
            raise InputError(f"--workers {self.workers}: 0 to {MOST_WORKERS}.")
        if self.keep < 0:
            raise InputError(f"--keep must not be negative, not {self.keep}.")
        if self.tensorboard and self.logger not in (None, "tensorboard"):
            raise InputError(f"--tensorboard and --logger {self.logger}: choose one.")
        if self.tensorboard:
            object.__setattr__(self, "logger", "tensorboard")


USUAL = Conduct()
