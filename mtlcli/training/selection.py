"""Chooses the best iterate on pictures held out of training, so that the test split stays unseen.

The field reports the best iterate on the test set, or the last one; this does neither: where no
pictures are held out, the scores of val are a curve to look at, by which nothing is chosen.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlcli.data.batches import WholePictures
from mtlcli.data.reader import Reader
from mtlcli.errors import InputError
from mtlcli.files import has_value
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import read_log
from mtlcli.scoring import measure as scoring
from mtlcli.tasks._task import Task
from mtlcli.training.state import State

BEST = "best.pt"
EVALUATIONS = 20  # per run
SPLIT_SEED = 7  # the same pictures are held out whatever the seed of the run
FLOOR = 0.01  # a first score below this counts as this, so that no gain is infinite


def split(count: int, share: float) -> tuple[list[int], list[int]]:
    """Indices to train on and indices held out, each in order; a share above 0 holds out one or
    more.

    Raises:
        InputError: then nothing is left to train on.
    """
    held = max(1, round(share * count)) if share > 0 else 0
    if share > 0 and held >= count:
        raise InputError(f"--holdout {share:g} leaves no picture to train on: there are {count}.")
    shuffled = np.random.default_rng(SPLIT_SEED).permutation(count).tolist()
    return sorted(shuffled[held:]), sorted(shuffled[:held])


def held_out(
    config: RunConfig, reader: Reader, tasks: Mapping[str, Task], scale: tuple[float, float]
) -> WholePictures:
    """The pictures to score while a network is trained, perhaps none.

    Args:
        config: of the run.
        reader: of the training split.
        tasks: by their names.
        scale: working pixels per stored pixel.
    """
    least = config.size or reader.info.size
    if config.val_every and not config.holdout:
        val = Reader(reader.path, "val", tuple(tasks))
        return WholePictures(val, tasks, scale, least=least, moments=config.moments)
    held = split(len(reader), config.holdout)[1]
    return WholePictures(reader, tasks, scale, held, least, moments=config.moments)


class Selection:
    """Scores pictures every so often; of those held out of training it keeps the best weights in
    best.pt, and says when they get no better.
    """

    def __init__(
        self,
        state: State,
        pictures: WholePictures,
        tasks: Mapping[str, Task],
        options: Mapping[str, Mapping[str, Any]],
        workers: int,
    ) -> None:
        """
        Args:
            state: of the run; what its log says of earlier evaluations still counts.
            pictures: see `held_out`.
            tasks: by their names.
            options: of their metrics.
            workers: processes that read pictures.
        """
        self.state, self.pictures, self.tasks, self.options = state, pictures, tasks, options
        self.workers, self.config = workers, state.config
        self.first: Mapping[str, float] = {}
        self.best, self.of = -np.inf, 0  # gain and iteration of the best evaluation
        self.since = 0  # evaluations after it
        for line in read_log(state.folder):
            if "holdout" in line:
                self._rank(line["holdout"], line["iteration"])

    @property
    def is_over(self) -> bool:
        """Whether the patience with the run is at its end."""
        return self.config.patience is not None and self.since >= self.config.patience

    def farewell(self) -> str:
        """Why there was no further iteration, as a sentence."""
        return (
            f"{self.state.folder} stopped at iteration {self.state.iteration} of "
            f"{self.config.iterations}: no better scores of the held-out pictures in {self.since} "
            f"evaluations (--patience {self.config.patience}); {BEST} is of iteration {self.of}."
        )

    def is_due(self, iteration: int) -> bool:
        """Whether the pictures are scored after an iteration, counted from 1."""
        last = self.config.iterations
        every = self.config.val_every or max(1, last // EVALUATIONS)
        return (iteration % every == 0 or iteration == last) and len(self.pictures) > 0

    def evaluate(self) -> dict[str, Any]:
        """Main scores, and their gain over the first evaluation in percent, for the log."""
        scores = self._score()
        return {"holdout": scores, "gain": self._rank(scores, self.state.iteration)}

    @property
    def is_best(self) -> bool:
        """Whether the weights as they are now are those of the best evaluation."""
        return self.config.holdout > 0 and self.of == self.state.iteration > 0

    def _rank(self, scores: Mapping[str, float], iteration: int) -> float:
        """The gain of an evaluation, which counts from now on."""
        self.first = self.first or scores
        gain = mean_gain(scores, self.first, self.tasks)
        better = gain > self.best
        if better:
            self.best, self.of = gain, iteration
        self.since = 0 if better else self.since + 1
        return gain

    def _score(self) -> dict[str, float]:
        with self.state.evaluated() as network, torch.inference_mode():

            def predict(image: Tensor) -> dict[str, Tensor]:
                return network(image.to(self.state.device))

            found = scoring.score(
                predict, self.pictures, self.tasks, self.options, self.workers, True
            )
        return {name: found[name][task.metric] for name, task in self.tasks.items()}


def mean_gain(
    scores: Mapping[str, float], first: Mapping[str, float], tasks: Mapping[str, Task]
) -> float:
    """Mean over the tasks of the relative improvement over the first evaluation, in percent.

    Tasks without a score in one of them do not count.
    """
    both = [n for n in tasks if has_value(scores.get(n)) and has_value(first.get(n))]
    changes = [100 * (scores[n] - first[n]) / max(first[n], FLOOR) for n in both]
    signed = [c if tasks[n].higher_is_better else -c for n, c in zip(both, changes)]
    return sum(signed) / len(signed) if signed else 0.0
