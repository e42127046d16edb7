"""From a dataset file to the batches of training and the whole pictures of evaluation.

What the k-th sample of a training run is depends on the seed and on k alone: not on the batch size,
on the number of workers or on where the run was interrupted. That is what makes resuming exact.
"""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mtlcli.data.augment import Sample, augment, normalise
from mtlcli.data.reader import Reader

Size = tuple[int, int]
Resolution = tuple[float, float]


class TrainingStream(Dataset):
    """Augmented samples by position in an endless stream of shuffled epochs."""

    def __init__(
        self,
        reader: Reader,
        tasks: Mapping[str, Any],
        size: Size,
        resolution: Resolution,
        seed: int,
    ):
        """
        Args:
            reader: the training split.
            tasks: names and Task records.
            size: height and width of the crops.
            resolution: working pixels per stored pixel, along y and x.
            seed: of the order and of the augmentation.
        """
        self.reader, self.tasks = reader, dict(tasks)
        self.size, self.resolution, self.seed = size, resolution, seed

    def index(self, position: int) -> int:
        """Which sample of the split stands at a position of the stream."""
        epoch, place = divmod(position, len(self.reader))
        order = np.random.default_rng((self.seed, 0, epoch)).permutation(len(self.reader))
        return int(order[place])

    def __getitem__(self, position: int) -> Sample:
        rng = np.random.default_rng((self.seed, 1, position))
        sample = self.reader[self.index(position)]
        return augment(sample, self.tasks, self.size, self.resolution, rng)


class WholePictures(Dataset):
    """The whole pictures of a split: the image at the working resolution, targets as stored.

    `size` is the height and width of the stored picture, at which predictions are scored.
    """

    def __init__(
        self,
        reader: Reader,
        tasks: Mapping[str, Any],
        resolution: Resolution,
        limit: int | None = None,
    ):
        self.reader, self.tasks, self.resolution = reader, dict(tasks), resolution
        self.count = min(len(reader), limit or len(reader))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        stored = self.reader[index]
        image = to_resolution(stored["image"], self.resolution)
        targets = {n: t.target(stored[n]) for n, t in self.tasks.items() if n in stored}
        size = np.array(stored["image"].shape[:2])
        return {"image": normalise(image), "size": size, **targets}


def to_resolution(image: np.ndarray, resolution: Resolution) -> np.ndarray:
    """The picture resized by `resolution` (along y and x); shrinking averages, enlarging
    interpolates.
    """
    if resolution == (1.0, 1.0):
        return image
    height, width = (max(1, round(n * r)) for n, r in zip(image.shape[:2], resolution))
    shrinks = min(resolution) < 1
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def stack(samples: list[Sample]) -> dict[str, Tensor]:
    """A batch: each array of the samples stacked along a new first dimension."""
    return {key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in samples[0]}


def single_threaded(worker: int) -> None:
    """A loader worker must not multiply its threads by OpenCV's."""
    cv2.setNumThreads(0)


def training_batches(
    stream: TrainingStream, first: int, last: int, batch_size: int, workers: int, pin: bool
) -> DataLoader:
    """The batches of iterations `first` to `last` (exclusive) of a run."""
    return DataLoader(
        stream,
        batch_size=batch_size,
        sampler=range(first * batch_size, last * batch_size),
        num_workers=workers,
        collate_fn=stack,
        worker_init_fn=single_threaded,
        pin_memory=pin,
    )


def whole_pictures(pictures: WholePictures, workers: int) -> DataLoader:
    """The pictures one by one, in the order of the split, as batches of one."""
    return DataLoader(
        pictures, num_workers=workers, collate_fn=stack, worker_init_fn=single_threaded
    )
