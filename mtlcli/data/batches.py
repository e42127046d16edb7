"""From a dataset file to the batches of training and the whole pictures of evaluation.

What the k-th sample of a training run is depends on the seed and on k alone: not on the batch size,
on the number of workers or on where the run was interrupted. That is what makes resuming exact.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from mtlcli.data.augment import Sample, augment
from mtlcli.data.images import normalise, to_resolution
from mtlcli.data.loading import Batch, loading
from mtlcli.data.moments import Moments
from mtlcli.data.reader import Reader
from mtlcli.errors import InputError, MtlError, RunError, in_one_line
from mtlcli.tasks._task import Task

Size = tuple[int, int]
Resolution = tuple[float, float]


class TrainingStream(Dataset):
    """Augmented samples by position in an endless stream of shuffled epochs."""

    def __init__(
        self,
        reader: Reader,
        tasks: Mapping[str, Task],
        size: Size,
        resolution: Resolution,
        seed: int,
        chosen: Sequence[int] | None = None,
        *,
        moments: Moments,
        zooms: tuple[float, float] | None = None,
    ):
        """
        Args:
            reader: the training split.
            tasks: by their names.
            size: height and width of the crops.
            resolution: working pixels per stored pixel, along y and x.
            seed: of the order and of the augmentation.
            chosen: indices of the samples to train on; by default all.
            moments: mean and deviation of the network's input.
            zooms: the smallest and the largest random scale; by default those of `augment`.
        """
        self.reader, self.maps = reader, {name: task.map for name, task in tasks.items()}
        self.balanced = [name for name, task in tasks.items() if task.balances_crops]
        self.chosen = range(len(reader)) if chosen is None else chosen
        self.size, self.resolution, self.seed = size, resolution, seed
        self.moments, self.zooms = moments, zooms

    def index(self, position: int) -> int:
        """Which sample of the split stands at a position of the stream."""
        epoch, place = divmod(position, len(self.chosen))
        order = np.random.default_rng((self.seed, 0, epoch)).permutation(len(self.chosen))
        return self.chosen[order[place]]

    def __getitem__(self, position: int) -> Sample:
        rng, index = np.random.default_rng((self.seed, 1, position)), self.index(position)
        with naming(self.reader, index):
            sample = self.reader[index]
            return augment(
                sample,
                self.maps,
                self.size,
                self.resolution,
                rng,
                self.moments,
                self.balanced,
                self.zooms,
            )


class WholePictures(Dataset):
    """The whole pictures of a split: the image at the working resolution, targets as stored.

    A picture that is smaller than the size of training is put into the middle of one of that size,
    as its crops are in training (DeMT's evaluation); `inside` says where it stands: its first row,
    the row after its last, and the same of columns. `size` is the height and width of the stored
    picture, at which predictions are scored. Labels of the file that are only scored against
    (`Info.truths`) come with the tasks'.
    """

    def __init__(
        self,
        reader: Reader,
        tasks: Mapping[str, Task],
        resolution: Resolution,
        chosen: Sequence[int] | None = None,
        least: Size = (0, 0),
        *,
        moments: Moments,
    ):
        """
        Args:
            reader: the split.
            tasks: by their names.
            resolution: working pixels per stored pixel, along y and x.
            chosen: indices of the pictures; by default all.
            least: height and width of the image at least, the size of training.
            moments: mean and deviation of the network's input.
        """
        self.maps = {name: task.map for name, task in tasks.items()}
        self.reader, self.resolution = reader, resolution
        self.least, self.moments = least, moments
        self.chosen = range(len(reader)) if chosen is None else chosen

    @property
    def ids(self) -> list[str]:
        """Names of the pictures."""
        return [self.reader.ids[index] for index in self.chosen]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> Sample:
        with naming(self.reader, self.chosen[index]):
            stored = self.reader[self.chosen[index]]
            image = normalise(to_resolution(stored["image"], self.resolution), self.moments)
            image, inside = centre(image, self.least)
            targets = {n: its.target(stored[n]) for n, its in self.maps.items() if n in stored}
            truths = self.reader.truths(self.chosen[index])
            size = np.array(stored["image"].shape[:2])
            return {"image": image, "inside": inside, "size": size, **targets, **truths}


def centre(image: np.ndarray, least: Size) -> tuple[np.ndarray, np.ndarray]:
    """An image (C, H, W) within zeros up to a height and width, of an odd rest the larger half
    last; and where it stands, (top, bottom, left, right).
    """
    height, width = image.shape[1:]
    top, left = (max(n - own, 0) // 2 for n, own in zip(least, (height, width)))
    inside = np.array((top, top + height, left, left + width))
    if height >= least[0] and width >= least[1]:
        return image, inside
    padded = np.zeros((len(image), max(height, least[0]), max(width, least[1])), image.dtype)
    padded[:, top : top + height, left : left + width] = image
    return padded, inside


@contextmanager
def naming(reader: Reader, index: int) -> Iterator[None]:
    """Any failure within becomes one line that says of which sample it is.

    Raises:
        MtlError: of the class it was, if it was one made for the user, else a RunError.
    """
    where = f"{reader.split} sample '{reader.ids[index]}'"
    try:
        yield
    except MtlError as error:
        if reader.ids[index] in str(error):
            raise
        raise type(error)(f"{reader.path}, {where}: {error}") from error
    except Exception as error:
        raise RunError(
            f"{reader.path}, {where} cannot be used: {in_one_line(error)}. "
            f"`mtl data {reader.path} --check` looks through all samples."
        ) from error


@dataclass(frozen=True, kw_only=True)
class Share:
    """The samples of each iteration that one process computes, and in how many parts."""

    batch_size: int  # samples of an iteration, over all processes and parts
    parts: int = 1  # passes whose gradients are accumulated
    rank: int = 0
    world: int = 1  # processes

    def __post_init__(self) -> None:
        if self.batch_size % (self.parts * self.world):
            raise InputError(
                f"{self.world} processes with --accumulate {self.parts} cannot share "
                f"--batch-size {self.batch_size}: it must be a multiple of "
                f"{self.world * self.parts}."
            )

    def positions(self, first: int, last: int) -> Iterator[list[int]]:
        """Places in the stream, a list for every part of the iterations `first` to `last`."""
        size = self.batch_size // (self.parts * self.world)
        for iteration in range(first, last):
            for part in range(self.parts):
                start = iteration * self.batch_size + (part * self.world + self.rank) * size
                yield list(range(start, start + size))


def training_batches(
    stream: TrainingStream, share: Share, first: int, last: int, workers: int, pin: bool
) -> AbstractContextManager[Iterator[tuple[Batch, ...]]]:
    """The batches of iterations `first` to `last` (exclusive) of a run: all parts of one
    iteration, then those of the next.

    To be used in a `with`, at whose end no process that prepares them is left.
    """
    places = share.positions(first, last)
    return loading(stream, places, workers, parts=share.parts, pin=pin)


def whole_pictures(
    pictures: WholePictures, own: Sequence[int], workers: int
) -> AbstractContextManager[Iterator[tuple[Batch, ...]]]:
    """The pictures at the places `own`, one by one, as batches of one, each alone in its tuple.

    To be used in a `with`, as `training_batches`.
    """
    return loading(pictures, ([place] for place in own), workers)
