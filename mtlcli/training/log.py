"""log.jsonl, the progress bar (or lines) and a board: what a run tells while it goes on."""

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from torch import Tensor
from tqdm import tqdm

from mtlcli.errors import in_one_line
from mtlcli.files import plain
from mtlcli.ops.processes import average, is_first
from mtlcli.runs.config import Conduct, RunConfig
from mtlcli.runs.folder import LOG, read_log
from mtlcli.tasks._task import Task
from mtlcli.training.clock import Clock, progress_text
from mtlcli.training.loggers import Board, open_board
from mtlcli.training.state import State
from mtlcli.training.watches import CollapseWatch, OffsetWatch

LINES = 1000  # at most about this many per run
SILENCE = 30.0  # seconds between two lines on a stderr that is no terminal


class Log:
    """Writes a line every so often; between two lines it only counts."""

    def __init__(self, state: State, tasks: Mapping[str, Task], conduct: Conduct) -> None:
        """
        Args:
            state: of the run; lines that its folder already has are kept.
            tasks: by their names.
            conduct: whether there is a progress bar, and which board.
        """
        self.state, self.tasks = state, dict(tasks)
        self.clock = Clock(state.device, state.config.batch_size)
        self.offsets = OffsetWatch(state.network)
        better = {name: task.higher_is_better for name, task in tasks.items()}
        self.collapse = CollapseWatch(remedy(state.config), better)
        self.failed: set[str] = set()
        lines = read_log(state.folder) if is_first() else []
        self.last: int = lines[-1]["iteration"] if lines else 0  # that has a line
        with self._optional("the watch for collapses"):
            for line in lines:
                self.collapse.read(line)
        self.bar = tqdm(
            initial=state.iteration,
            total=state.config.iterations,
            desc="train",
            disable=True if conduct.quiet or not is_first() else None,
        )
        self.speaks = self.bar.disable and not conduct.quiet and is_first()
        self.spoken = -math.inf
        self.board: Board | None = None
        self.logger = f"--logger {conduct.logger}"
        with self._optional(self.logger):
            if is_first():
                self.board = open_board(conduct.logger, state.folder, state.config)

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
        with self._optional(self.logger):
            if self.board:
                self.board.close(failed=error is not None)

    def begin(self, iteration: int) -> None:
        """Prepare for an iteration, counted from 1."""
        self.offsets.look(self.is_due(iteration))

    def end(self, losses: Mapping[str, Tensor], labelled: Tensor, more: Mapping[str, Any]) -> None:
        """An iteration is over: show it, and write its line if it is due.

        Args:
            losses: of the tasks, scalars of this process, summed over the parts of the batch, each
                times its share (`share_labels`).
            labelled: (T,) shares of the parts in which each task had labels, summed.
            more: what else is known of it; then it gets a line in any case.
        """
        self.bar.update()
        if more or self.is_due(self.state.iteration):
            self.write(self._line(losses, labelled) | dict(more))

    def complete(self, more: Mapping[str, Any]) -> None:
        """Write the line of the iteration that a run was saved at, where it has none: without what
        nobody knows any more.
        """
        rate = self.state.optimizer.param_groups[0]["lr"]
        self.write({"iteration": self.state.iteration, "loss": {}, "lr": rate, **more})

    def write(self, line: Mapping[str, Any]) -> None:
        """Write a line into the log, and show it."""
        print(json.dumps(plain(line), allow_nan=False), file=self.file, flush=True)
        with self._optional(self.logger):
            if self.board and self.logger not in self.failed:
                self.board.write(line)
        with self._optional("the progress line"):
            if "speed" in line:
                self.bar.set_postfix(progress_text(line), refresh=False)
                self._speak(line)
        with self._optional("the watch for collapses"):
            for warning in self.collapse.read(line) if is_first() else ():
                self.say(warning)

    def say(self, sentence: str) -> None:
        """A line on stderr, from the first process."""
        if is_first():
            self.bar.write(f"mtl: {sentence}", file=sys.stderr)

    @contextmanager
    def _optional(self, what: str) -> Iterator[None]:
        """What only tells of a run never ends it; a failure within is said once."""
        try:
            yield
        except Exception as error:
            if what not in self.failed and is_first():
                print(
                    f"mtl: {what} failed, training goes on: {in_one_line(error).rstrip('.')}.",
                    file=sys.stderr,
                )
            self.failed.add(what)

    def _speak(self, line: Mapping[str, Any]) -> None:
        """Where there is no terminal for a bar, a line now and then."""
        now, done = time.monotonic(), self.state.iteration
        over = done == self.state.config.iterations
        if self.speaks and (over or now - self.spoken >= SILENCE):
            self.spoken = now
            left = tqdm.format_interval(line["speed"]["eta_s"])
            told = {**progress_text(line), "left": left}
            said = ", ".join(f"{name} {value}" for name, value in told.items())
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
