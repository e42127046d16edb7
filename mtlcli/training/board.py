"""`--tensorboard`: the lines of the log as TensorBoard shows them, in RUN/tensorboard."""

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mtlcli.errors import InputError
from mtlcli.runs.folder import read_log

BOARD = "tensorboard"


def require_tensorboard() -> None:
    """To be called before a run begins.

    Raises:
        InputError: the package is not installed.
    """
    if find_spec("tensorboard") is None:
        raise InputError("--tensorboard needs tensorboard: pip install 'mtlcli[tb]'.")


class Board:
    """Shows a run from its first line on, also when it was begun without."""

    def __init__(self, run: Path) -> None:
        """
        Args:
            run: folder of the run; what its board showed before is replaced by the lines of its
                log, so that nothing is shown twice after a resume.
        """
        with warnings.catch_warnings():  # tensorboard's imports warn of its dependencies
            warnings.simplefilter("ignore")
            from torch.utils.tensorboard import SummaryWriter
        self.writer = SummaryWriter(str(run / BOARD), purge_step=0)
        for line in read_log(run):
            self.write(line)

    def write(self, line: Mapping[str, Any]) -> None:
        """Show a line of the log."""
        for name, value in scalars(line).items():
            self.writer.add_scalar(name, value, line["iteration"])
        self.writer.flush()

    def close(self) -> None:
        """Nothing is written any more."""
        self.writer.close()


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of the log by the name of their curve, GROUP/CURVE."""
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
    return found | {f"speed/{name}": value for name, value in line.get("speed", {}).items()}
