"""Chooses the best iterate on pictures held out of training, so that the test split stays unseen.

The field reports the best iterate on the test set, or the last one; this does neither.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlcli.data.batches import WholePictures
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
    """
    held = max(1, round(share * count)) if share > 0 else 0
    shuffled = np.random.default_rng(SPLIT_SEED).permutation(count).tolist()
    return sorted(shuffled[held:]), sorted(shuffled[:held])


class Selection:
    """Scores the held-out pictures every so often and keeps the best weights in best.pt."""

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
            pictures: held out, perhaps none.
            tasks: by their names.
            options: of their metrics.
            workers: processes that read pictures.
        """
        self.state, self.pictures, self.tasks, self.options = state, pictures, tasks, options
        self.workers = workers
        self.first: Mapping[str, float] = {}
        self.best = -np.inf
        for line in read_log(state.folder):
            if "holdout" in line:
                self.first = self.first or line["holdout"]
                self.best = max(self.best, line["gain"])

    def is_due(self, iteration: int) -> bool:
        """Whether the pictures are scored after an iteration, counted from 1."""
        last = self.state.config.iterations
        due = iteration % max(1, last // EVALUATIONS) == 0 or iteration == last
        return due and len(self.pictures) > 0

    def evaluate(self) -> dict[str, Any]:
        """Main scores, and their gain over the first evaluation in percent, for the log."""
        scores = self._score()
        self.first = self.first or scores
        gain = mean_gain(scores, self.first, self.tasks)
        if gain > self.best:
            self.best = gain
            self.state.save(name=BEST)
        return {"holdout": scores, "gain": gain}

    @torch.inference_mode()
    def _score(self) -> dict[str, float]:
        network = self.state.network.eval()

        def predict(image: Tensor) -> dict[str, Tensor]:
            return network(image.to(self.state.device))

        found = scoring.score(predict, self.pictures, self.tasks, self.options, self.workers, True)
        network.train()
        return {name: found[name][task.metric] for name, task in self.tasks.items()}


def mean_gain(
    scores: Mapping[str, float], first: Mapping[str, float], tasks: Mapping[str, Task]
) -> float:
    """Mean over the tasks of the relative improvement over the first evaluation, in percent.

    Tasks without a score in one of them do not count.
    """
    both = [n for n in tasks if np.isfinite(scores[n]) and np.isfinite(first[n])]
    changes = [100 * (scores[n] - first[n]) / max(first[n], FLOOR) for n in both]
    signed = [c if tasks[n].higher_is_better else -c for n, c in zip(both, changes)]
    return sum(signed) / len(signed) if signed else 0.0
