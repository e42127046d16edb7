"""How a run is carried out: what may change from one start of it to the next."""

from dataclasses import dataclass, field

from mtlcli.errors import InputError


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
        if self.keep < 0:
            raise InputError(f"--keep must not be negative, not {self.keep}.")


USUAL = Conduct()
