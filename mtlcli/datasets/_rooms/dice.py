"""Random draws of a scene, all made from the uniform doubles of one PCG64 stream."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Dice:
    """Draws from `numpy.random.default_rng(key)`.

    Only `Generator.random` is used: its doubles are the top 53 bits of the raw stream and so the
    same in every numpy, which is not promised of `choice`, `integers` or `normal`.
    """

    def __init__(self, *key: int) -> None:
        self.stream = np.random.default_rng(key)

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * float(self.stream.random())

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return float(self.stream.random()) < probability

    def one_of(self, things: Sequence[T]) -> T:
        """One of the things, all equally likely."""
        return things[int(self.stream.random() * len(things))]

    def shuffled(self, things: Sequence[T]) -> list[T]:
        """The things in random order."""
        keys = self.stream.random(len(things))
        return [things[i] for i in np.argsort(keys, kind="stable")]

    def bell(self, shape: tuple[int, ...]) -> np.ndarray:
        """float32 array of about normal numbers (mean 0, deviation 1): the sum of four uniforms."""
        total = self.stream.random((4, *shape), dtype=np.float32).sum(0)
        return (total - np.float32(2)) * np.float32(3**0.5)
