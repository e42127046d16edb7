"""Scores of any predictor on whole pictures, by all processes, and of the best constant."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mtlcli.data.batches import WholePictures, whole_pictures
from mtlcli.data.reader import Reader
from mtlcli.errors import RunError
from mtlcli.ops.heap import trim
from mtlcli.ops.processes import gather, rank, world
from mtlcli.tasks._shared import at_size, cut_out
from mtlcli.tasks._task import Task

Predict = Callable[[Tensor], Mapping[str, Tensor]]
Save = Callable[[str, Mapping[str, Tensor]], None]
LEARNT_FROM = 100  # training pictures are enough
TRIMMED = 16  # pictures between two returns of freed memory


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The statistics of every picture that was scored; the same on all processes."""

    tasks: Mapping[str, Task]  # by name
    options: Mapping[str, Mapping[str, Any]]  # of the tasks' metrics
    pictures: Sequence[tuple[str, Mapping[str, Any]]]  # id and task -> statistics, in order

    def scores(self) -> dict[str, dict[str, float]]:
        """Task -> name of the score -> value over all pictures."""
        return {n: task.score(self._of(n), self.options[n]) for n, task in self.tasks.items()}

    def main_scores(self) -> dict[str, float]:
        """Task -> its main score over all pictures."""
        found = self.scores()
        return {name: found[name][task.metric] for name, task in self.tasks.items()}

    def curves(self) -> dict[str, dict[str, list[float]]]:
        """Task -> thresholds, recall and precision, for the tasks that have them."""
        return {
            name: task.curve(self._of(name), self.options[name])
            for name, task in self.tasks.items()
            if task.curve
        }

    def per_picture(self) -> dict[str, dict[str, float]]:
        """Id -> task -> main score of that picture alone; only tasks that it counts for."""
        return {
            ident: {n: self._main(n, statistics) for n, statistics in found.items()}
            for ident, found in self.pictures
        }

    def _of(self, task: str) -> list[Any]:
        return [found[task] for _, found in self.pictures if task in found]

    def _main(self, name: str, statistics: Any) -> float:
        task = self.tasks[name]
        return task.score([statistics], self.options[name])[task.metric]


def score(
    predict: Predict,
    pictures: WholePictures,
    tasks: Mapping[str, Task],
    options: Mapping[str, Mapping[str, Any]],
    workers: int,
    quiet: bool,
    save: Save | None = None,
) -> dict[str, dict[str, float]]:
    """Scores over all pictures of any predictor; see `measure`."""
    return measure(predict, pictures, tasks, options, workers, quiet, save).scores()


def measure(
    predict: Predict,
    pictures: WholePictures,
    tasks: Mapping[str, Task],
    options: Mapping[str, Mapping[str, Any]],
    workers: int,
    quiet: bool,
    save: Save | None = None,
) -> Measured:
    """Measure any predictor: image (1, 3, h, w) -> {task: logits (1, C, h', w')}.

    Logits are cut to the picture, resized bilinearly to the size of the labels and scored there
    (ATRC's protocol), against the file's labels that the option "gt_as" names, else the task's own.
    A picture does not count for a task it has no label for, or whose option "ids" leaves it out,
    nor for one that is not predicted. `save` is given the id and the resized logits of every
    picture. Each process measures its share of the pictures; all get the same scores, which are
    those of one process.

    Raises:
        RunError: a prediction is not finite.
    """
    measured: dict[int, dict[str, Any]] = {}  # picture -> task -> statistics
    options = merge_options(options, {}, tasks)
    counted = {n: set(options[n].get("ids") or pictures.ids) for n in tasks}
    own = range(rank(), len(pictures), world())
    silent = True if quiet or rank() else None
    with (
        whole_pictures(pictures, own, workers) as batches,
        tqdm(own, desc="eval", leave=None, disable=silent) as bar,
    ):
        for index, (batch,) in zip(bar, batches):
            ident = pictures.ids[index]
            height, width = batch["size"][0].tolist()
            seen, inside = batch["image"].shape[-2:], batch["inside"][0].tolist()
            predicted = predict(batch["image"])
            require_finite(predicted, ident)
            logits = {
                n: at_size(cut_out(x.float(), seen, inside), (height, width))
                for n, x in predicted.items()
            }
            measured[index] = {
                name: task.measure(
                    logits[name][0],
                    batch[truth_of(name, options, pictures)][0].to(logits[name].device),
                    options[name],
                )
                for name, task in tasks.items()
                if name in batch and ident in counted[name] and name in logits
            }
            if save:
                save(ident, logits)
            if len(measured) % TRIMMED == 0:
                trim()
    everything = {index: found for share in gather(measured) for index, found in share.items()}
    in_order = [(pictures.ids[index], everything[index]) for index in sorted(everything)]
    return Measured(tasks=tasks, options=options, pictures=in_order)


def require_finite(logits: Mapping[str, Tensor], ident: str) -> None:
    """Refuse to score what is no number (raises RunError, which names the picture and the task)."""
    wrong = [name for name, x in logits.items() if not torch.isfinite(x).all()]
    if wrong:
        raise RunError(
            f"The network predicts what is not finite for {', '.join(wrong)} of picture '{ident}': "
            "score another checkpoint of its run, or train anew with a lower --lr."
        )


def truth_of(task: str, options: Mapping[str, Mapping[str, Any]], pictures: WholePictures) -> str:
    """The labels that a task is scored against: those of the file that its option "gt_as" names,
    or its own.
    """
    named = options[task].get("gt_as")
    return named if named in pictures.reader.info.truths else task


def merge_options(
    dataset: Mapping[str, Mapping[str, Any]],
    overrides: Mapping[str, Mapping[str, Any]],
    tasks: Mapping[str, Task],
) -> dict[str, dict[str, Any]]:
    """Each task's options: the dataset's, replaced by those the user gave."""
    return {n: {**dataset.get(n, {}), **overrides.get(n, {})} for n in tasks}


def best_constant(training: Reader, tasks: Mapping[str, Task]) -> Predict:
    """A predictor that answers every picture with the constant maps that fit training labels best.

    That is the most frequent class, the mean depth, the mean normal (see `mtlcli.maps`). It does
    not answer a task of which no training picture has a labelled pixel.

    Args:
        training: with labels of `tasks`.
        tasks: by their names.
    """
    logits = {}
    for name, task in tasks.items():
        targets = [*islice(labelled_targets(training, name, task), LEARNT_FROM)]
        if targets:
            values = task.best_constant(targets, training.info.classes.get(name, ()))
            logits[name] = torch.from_numpy(values).float()[None, :, None, None]
    return lambda image: {n: v.expand(1, -1, *image.shape[-2:]) for n, v in logits.items()}


def labelled_targets(training: Reader, name: str, task: Task) -> Iterator[np.ndarray]:
    """The targets of a task, of the pictures that have a labelled pixel for it."""
    for index in np.flatnonzero(training.has(name)).tolist():
        stored = training.read(name, index)
        if task.map.labelled(stored).any():
            yield task.map.target(stored)
