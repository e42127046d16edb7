"""The time of one augmented sample, ours and step by step, in turns on one core."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import mean
from typing import Any

import cv2
import numpy as np

from mtlcli import lookup
from mtlcli.bench.stepwise import stepwise
from mtlcli.data.augment import Sample, augment
from mtlcli.data.reader import Reader
from mtlcli.home import datasets_dir
from mtlcli.tasks import named

NYUD = (425, 560)  # of its pictures and crops
TASKS = ("semseg", "depth", "normals", "edge")  # its labels
SAMPLES = 8
ROUNDS = 64


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Processor time of one sample: the mean over many random crops, the same for both."""

    ours_ms: float
    stepwise_ms: float  # as the field's code does it
    source: str  # of the samples

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.stepwise_ms / self.ours_ms

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return {
            "ours_ms": self.ours_ms,
            "stepwise_ms": self.stepwise_ms,
            "ratio": self.ratio,
            "samples": self.source,
        }


def measure(rounds: int = ROUNDS) -> Augmentation:
    """Image and four labels of 425x560 pixels: from nyud.h5, or rooms rendered at that size."""
    samples, source = nyud_samples()
    tasks = named(TASKS)
    spent: dict[Callable[..., Sample], list[float]] = {augment: [], stepwise: []}
    with one_core():
        for turn in range(rounds + 1):
            for way, times in spent.items():
                times.append(seconds(way, samples[turn % len(samples)], tasks, turn))
    ours, theirs = (1e3 * mean(times[1:]) for times in spent.values())  # the first warms up
    return Augmentation(ours_ms=ours, stepwise_ms=theirs, source=source)


def seconds(
    way: Callable[..., Sample], sample: Sample, tasks: Mapping[str, Any], seed: int
) -> float:
    """Processor time of one augmentation; unlike a clock's it does not count other programs."""
    rng = np.random.default_rng(seed)
    began = time.process_time()
    way(sample, tasks, NYUD, (1.0, 1.0), rng)
    return time.process_time() - began


def nyud_samples() -> tuple[list[Sample], str]:
    """A few samples in stored form, and where they are from."""
    path = datasets_dir() / "nyud.h5"
    if path.exists():
        reader = Reader(path, "train", TASKS)
        if reader.info.size == NYUD:
            return [reader[i] for i in range(min(SAMPLES, len(reader)))], path.name
    rooms = lookup.load("datasets", "rooms")
    return [rooms.render(i, "train", NYUD) for i in range(SAMPLES)], "rooms rendered at 425x560"


@contextmanager
def one_core() -> Iterator[None]:
    """Within it OpenCV starts no threads, as in a loader process."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
