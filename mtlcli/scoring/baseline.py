"""What every network must beat: the same values at every pixel, those that fit the labels best."""

from collections.abc import Mapping

import torch

from mtlcli.data.reader import Reader
from mtlcli.scoring.measure import Predict
from mtlcli.tasks._task import Task

LEARNT_FROM = 100  # training pictures are enough


def best_constant(training: Reader, tasks: Mapping[str, Task]) -> Predict:
    """A predictor that answers every picture with the constant maps that fit training labels best.

    That is the most frequent class, the mean depth, the mean normal (see `mtlcli.maps`).

    Args:
        training: with labels of `tasks`.
        tasks: by their names.
    """
    samples = [training[i] for i in range(min(LEARNT_FROM, len(training)))]
    logits = {}
    for name, task in tasks.items():
        targets = [task.map.target(s[name]) for s in samples if name in s]
        values = task.best_constant(targets, training.info.classes.get(name, ()))
        logits[name] = torch.from_numpy(values).float()[None, :, None, None]
    return lambda image: {n: v.expand(1, -1, *image.shape[-2:]) for n, v in logits.items()}
