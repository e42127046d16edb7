"""Where the time and the memory of training go, between one line of the log and the next."""

import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch

T = TypeVar("T")
GIGABYTE = 1e9


class Clock:
    """Measures steps and how long they waited for data."""

    def __init__(self, device: torch.device, images: int) -> None:
        """
        Args:
            device: that computes.
            images: of one iteration.
        """
        self.device, self.images = device, images
        self.began, self.waited, self.steps = time.perf_counter(), 0.0, 0

    def count_waits(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches, one for each step; the wait for each is counted."""
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.waited += time.perf_counter() - asked
            yield batch
            self.steps += 1

    def read(self, left: int) -> dict[str, float]:
        """Seconds per step, share of it spent waiting for data, images per second, seconds that
        the `left` steps will take, and the peak memory so far; then count anew.

        The losses must have been read before, so that the device has done what it was given.
        """
        now = time.perf_counter()
        spent = max(now - self.began, 1e-9)  # a clock may be too coarse to see it
        steps = self.steps + 1  # the one that is being logged
        figures = {
            "step_s": spent / steps,
            "data_wait": self.waited / spent,
            "images_per_s": self.images * steps / spent,
            "eta_s": left * spent / steps,
            "memory_gb": peak_memory(self.device),
        }
        self.began, self.waited, self.steps = now, 0.0, -1
        return {name: float(f"{value:.4g}") for name, value in figures.items()}


def peak_memory(device: torch.device) -> float:
    """Gigabytes: of tensors on a CUDA device, of this process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIGABYTE
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIGABYTE


def progress_text(line: Mapping[str, Any]) -> dict[str, str]:
    """What the progress bar says beside iteration, rate and time left."""
    speed = line["speed"]
    return {
        "loss": f"{line['total']:.3f}" if "total" in line else "-",
        "images/s": f"{speed['images_per_s']:.1f}",
        "data wait": f"{speed['data_wait']:.0%}",
        "GB": f"{speed['memory_gb']:.1f}",
    }
