"""log.jsonl, the progress bar (or lines) and TensorBoard: what a run tells while it goes on."""

import json
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor
from tqdm import tqdm

from mtlcli.errors import InputError, in_one_line
from mtlcli.ops.processes import average, is_first
from mtlcli.runs.config import Conduct, RunConfig
from mtlcli.runs.folder import LOG, read_log
from mtlcli.tasks._task import Task
from mtlcli.training.clock import Clock, progress_text
from mtlcli.training.state import State
from mtlcli.training.watches import CollapseWatch, OffsetWatch

BOARD = "tensorboard"
LINES = 1000  # at most about this many per run
SILENCE = 30.0  # seconds between two lines on a stderr that is no terminal


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


class Log:
    """Writes a line every so often; between two lines it only counts."""

    def __init__(self, state: State, tasks: Mapping[str, Task], conduct: Conduct) -> None:
        """
        Args:
            state: of the run; lines that its folder already has are kept.
            tasks: by their names.
            conduct: whether there is a progress bar, and a board for TensorBoard.
        """
        self.state, self.tasks = state, dict(tasks)
        self.clock = Clock(state.device, state.config.batch_size)
        self.offsets = OffsetWatch(state.network)
        better = {name: task.higher_is_better for name, task in tasks.items()}
        self.collapse = CollapseWatch(remedy(state.config), better)
        self.failed: set[str] = set()
        with self._optional("the watch for collapses"):
            for line in read_log(state.folder) if is_first() else ():
                self.collapse.read(line)
        self.bar = tqdm(
            initial=state.iteration,
            total=state.config.iterations,
            desc="train",
            disable=True if conduct.quiet or not is_first() else None,
        )
        self.speaks = self.bar.disable and not conduct.quiet and is_first()
        self.spoken = -math.inf
        self.board = None
        with self._optional("--tensorboard"):
            self.board = Board(state.folder) if conduct.tensorboard and is_first() else None

    def __enter__(self) -> "Log":
        self.file = open(self.state.folder / LOG if is_first() else os.devnull, "a")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.close()
        self.file.close()
        with self._optional("--tensorboard"):
            if self.board:
                self.board.close()

    def begin(self, iteration: int) -> None:
        """Prepare for an iteration, counted from 1."""
        self.offsets.look(self.is_due(iteration))

    def end(self, losses: Mapping[str, Tensor], labelled: Tensor, more: Mapping[str, Any]) -> None:
        """An iteration is over: show it, and write its line if it is due.

        Args:
            losses: of the tasks, scalars of this process, summed over the parts of the batch.
            labelled: (T,) parts in which each task had labels.
            more: what else is known of it; then it gets a line in any case.
        """
        self.bar.update()
        if not (more or self.is_due(self.state.iteration)):
            return
        line = self._line(losses, labelled) | dict(more)
        print(json.dumps(line), file=self.file, flush=True)
        with self._optional("--tensorboard"):
            if self.board:
                self.board.write(line)
        with self._optional("the progress line"):
            self.bar.set_postfix(progress_text(line), refresh=False)
            self._speak(line)
        with self._optional("the watch for collapses"):
            for warning in self.collapse.read(line) if is_first() else ():
                self.bar.write(f"mtl: {warning}", file=sys.stderr)

    @contextmanager
    def _optional(self, what: str) -> Iterator[None]:
        """What only tells of a run never ends it; a failure within is said once."""
        try:
            yield
        except Exception as error:
            if what not in self.failed and is_first():
                print(
                    f"mtl: {what} failed, training goes on: {in_one_line(error)}.", file=sys.stderr
                )
            self.failed.add(what)

    def _speak(self, line: Mapping[str, Any]) -> None:
        """Where there is no terminal for a bar, a line now and then."""
        now, done = time.monotonic(), self.state.iteration
        over = done == self.state.config.iterations
        if self.speaks and (over or now - self.spoken >= SILENCE):
            self.spoken = now
            said = ", ".join(f"{name} {value}" for name, value in progress_text(line).items())
            print(
                f"train: {done}/{self.state.config.iterations}, {said}", file=sys.stderr, flush=True
            )

    def sync(self) -> None:
        """Lines so far are on the disk when this returns."""
        if is_first():
            os.fsync(self.file.fileno())

    def is_due(self, iteration: int) -> bool:
        """Whether an iteration, counted from 1, gets a line."""
        last = self.state.config.iterations
        return iteration % max(1, last // LINES) == 0 or iteration == last

    def _line(self, losses: Mapping[str, Tensor], labelled: Tensor) -> dict[str, Any]:
        """A task without a label in the batch has no loss: it is left out."""
        sums = [average(loss).item() for loss in losses.values()]
        parts = zip(losses, sums, labelled.tolist())
        values = {name: total / count for name, total, count in parts if count}
        offsets = {}
        with self._optional("the watch of offsets"):
            offsets = self.offsets.read()
        return {
            "iteration": self.state.iteration,
            **({"total": self._total(values)} if values else {}),
            "loss": values,
            "lr": self.state.optimizer.param_groups[0]["lr"],
            "speed": self.clock.read(self.state.config.iterations - self.state.iteration),
            **({"offsets": offsets} if offsets else {}),
        }

    def _total(self, values: Mapping[str, float]) -> float:
        return sum(self.tasks[name].weight * value for name, value in values.items())


def remedy(config: RunConfig) -> str:
    """What to change when learning collapses."""
    scale = config.settings.get("gradient_scale") if config.optimizer == "sgd" else None
    also = f" or --gradient-scale (now {scale:g})" if scale else ""
    return f"Lower --lr (now {config.lr:g}){also}."
