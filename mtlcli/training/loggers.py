"""--logger: the lines of the log in TensorBoard or Weights & Biases."""

import os
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from mtlcli.errors import InputError
from mtlcli.files import has_value
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import read_log

EXTRAS = {"tensorboard": "tb", "wandb": "wandb"}  # package -> the extra that has it
PROJECT = "mtl"  # where $WANDB_PROJECT names none
SETTINGS = {
    "silent": True,
    "console": "off",  # stdout and stderr stay as they are
    "save_code": False,
    "disable_git": True,
    "init_timeout": 60,  # seconds for the server to answer
    "login_timeout": 60,  # and for a key to be typed
}


def require_logger(name: str | None) -> None:
    """To be called before a run begins.

    Raises:
        InputError: its package is not installed.
    """
    spec = find_spec(name) if name in EXTRAS else None
    if name in EXTRAS and (spec is None or spec.origin is None):  # a mere folder has no origin
        raise InputError(f"--logger {name} needs {name}: pip install 'mtlcli[{EXTRAS[name]}]'.")


class Board(Protocol):
    """What shows a run from its first line on, also when it was begun without."""

    def write(self, line: Mapping[str, Any]) -> None:
        """Show a line of the log."""

    def close(self, *, failed: bool) -> None:
        """Nothing is written any more, as the run is over or has failed."""


def open_board(name: str | None, run: Path, config: RunConfig) -> Board | None:
    """The board of that name for the run of a folder, None for none."""
    with warnings.catch_warnings():  # their imports warn of their dependencies
        warnings.simplefilter("ignore")
        if name == "wandb":
            return WandbBoard(run, config)
        return TensorBoard(run) if name == "tensorboard" else None


class TensorBoard:
    """RUN/tensorboard."""

    def __init__(self, run: Path) -> None:
        """
        Args:
            run: folder of the run; what its board showed before is replaced by the lines of its
                log, so that nothing is shown twice after a resume.
        """
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(run / "tensorboard"), purge_step=0)
        for line in read_log(run):
            self.write(line)

    def write(self, line: Mapping[str, Any]) -> None:
        """See `Board`."""
        for name, value in scalars(line).items():
            self.writer.add_scalar(name, value, line["iteration"])
        self.writer.flush()

    def close(self, *, failed: bool) -> None:
        """See `Board`."""
        self.writer.close()


class WandbBoard:
    """A run of Weights & Biases, whose files are in RUN/wandb; $WANDB_MODE=offline needs no net."""

    def __init__(self, run: Path, config: RunConfig) -> None:
        """
        Args:
            run: folder of the run; if it was shown before, the same run goes on there, which knows
                the lines so far.
            config: of the run.
        """
        import wandb

        note = run / "wandb" / "id"
        known = note.exists()
        ident = note.read_text() if known else uuid4().hex[:8]
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=ident,
            name=run.resolve().name,
            dir=run,
            config=config.to_json(),
            resume="allow",
            allow_val_change=True,  # a run that was extended
            settings=SETTINGS,
        )
        note.parent.mkdir(exist_ok=True)
        note.write_text(ident)
        for line in read_log(run) if not known else ():
            self.write(line)

    def write(self, line: Mapping[str, Any]) -> None:
        """See `Board`."""
        self.run.log(scalars(line), step=line["iteration"])

    def close(self, *, failed: bool) -> None:
        """See `Board`."""
        self.run.finish(exit_code=int(failed))


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of the log by the name of their curve, GROUP/CURVE; what has no value
    is left out.
    """
    found = {f"loss/{task}": value for task, value in line["loss"].items()}
    found |= {"loss/total": line["total"]} if "total" in line else {}
    found["learning rate"] = line["lr"]
    for attention, spread in line.get("offsets", {}).items():
        for level, (pixels, outside) in enumerate(zip(spread["pixels"], spread["outside"])):
            found[f"offsets in pixels/{attention}/{2**level}"] = pixels
            found[f"points outside/{attention}/{2**level}"] = outside
    found |= {f"held-out metric/{task}": value for task, value in line.get("holdout", {}).items()}
    if "gain" in line:
        found["held-out metric/gain in percent"] = line["gain"]
    found |= {f"speed/{name}": value for name, value in line.get("speed", {}).items()}
    return {name: value for name, value in found.items() if has_value(value)}
