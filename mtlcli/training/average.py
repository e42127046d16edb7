"""A moving average of a network's weights, which scores better than the weights themselves
(Tarvainen and Valpola, arXiv 1703.01780).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Parameters and running statistics are averaged, counters are those of the network.

    The decay of a step is min(decay, (1 + t) / (10 + t)) after t earlier ones, or the random start
    would weigh in for long.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """
        Args:
            network: whose tensors stay where they are, on its device.
            decay: between 0 and 1.
        """
        self.decay = decay
        self.raw = network.state_dict()  # the network's own tensors
        self.weights = {name: value.clone() for name, value in self.raw.items()}
        self.fractions = [name for name, value in self.raw.items() if value.is_floating_point()]

    @torch.no_grad()
    def update(self, earlier: int) -> None:
        """A step was made, after so many earlier ones."""
        decay = min(self.decay, (1 + earlier) / (10 + earlier))
        means, now = ([each[n] for n in self.fractions] for each in (self.weights, self.raw))
        torch._foreach_lerp_(means, now, 1 - decay)
        for name in self.raw.keys() - self.fractions:
            self.weights[name].copy_(self.raw[name])

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Go on from an average that was saved (raises KeyError for one of another network)."""
        copy(self.weights, weights)

    @contextmanager
    def in_network(self) -> Iterator[None]:
        """Within it, the network has the average."""
        raw = {name: value.clone() for name, value in self.raw.items()}
        try:
            copy(self.raw, self.weights)
            yield
        finally:
            copy(self.raw, raw)


@torch.no_grad()
def copy(places: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Every value into the tensor of its name."""
    for name, place in places.items():
        place.copy_(values[name])
