"""The record of an experiment: cells that differ in a few options, each run with several seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mtlcli.runs.config import RunConfig

WIDTH = 32
"""Of every decoder: what a CPU can train."""
ITSA: Mapping[str, Any] = {
    "width": WIDTH,
    "position_channels": 16,
    "steps": 1,
    "points": 4,
    "feedforward": 2 * WIDTH,
    "mixer_coordinates": "relative",
    "gradient_scope": "offsets",  # the default when these runs were made; adamw makes no use of it
}
SYSTEMS: Mapping[str, Mapping[str, Any]] = {
    "single_task": {"system": "single_task", "settings": {"hidden": WIDTH}},
    "multi_task": {"system": "multi_task", "settings": {"hidden": WIDTH}},
    "mqtransformer": {"system": "mqtransformer", "settings": {"width": WIDTH}},
    "demt": {"system": "demt", "settings": {"width": WIDTH, "mixer_coordinates": "relative"}},
    "demt_itsa": {"system": "demt_itsa", "settings": ITSA},
    "demt_itsa, query pixel": {"system": "demt_itsa", "settings": {**ITSA, "query": "pixel"}},
    "demt_itsa, query deformable": {
        "system": "demt_itsa",
        "settings": {**ITSA, "query": "deformable"},
    },
}
"""The five systems of the paper and the two cheaper queries, at a size that a CPU can train."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A grid of runs under one budget."""

    title: str
    budget: RunConfig  # what all runs share
    cells: Mapping[str, Mapping[str, Any]]  # label -> fields of RunConfig that replace the budget's
    seeds: int
    references: tuple[str, ...] = ()  # labels that Delta% is against
    limit: int | None = None  # only the first so many validation pictures are scored
    prepare: str = ""  # the command that makes its dataset
    pictures: int | None = None  # for training in that

    @property
    def extent(self) -> str:
        """How many runs of what."""
        its = self.budget
        size = "x".join(map(str, its.crop or its.size or ()))
        runs = len(self.cells) * self.seeds
        return f"{runs} runs of {its.iterations} iterations of {its.batch_size} at {size}"

    def config(self, label: str, seed: int) -> RunConfig:
        """The options of one run."""
        return replace(self.budget, **self.cells[label], seed=seed)
