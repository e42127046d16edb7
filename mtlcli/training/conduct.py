"""How a run is carried out: what may change from one start of it to the next."""

from dataclasses import dataclass

from mtlcli.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Conduct:
    """What decides where and how fast a run goes, but not what it computes."""

    device: str | None = None  # auto, cpu, cuda or mps; None: that of the run, or auto
    workers: int = 2  # processes that prepare batches; 0 for none
    checkpoint_every: int = 500  # iterations
    keep: int = 0  # of the newest checkpoints, as iteration_N.pt
    quiet: bool = False  # no progress bar
    tensorboard: bool = False  # also write what TensorBoard shows

    def __post_init__(self) -> None:
        if self.checkpoint_every < 1:
            raise InputError(f"--checkpoint-every must be positive, not {self.checkpoint_every}.")
        if self.keep < 0:
            raise InputError(f"--keep must not be negative, not {self.keep}.")


USUAL = Conduct()
