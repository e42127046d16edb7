"""In what a run departs from a recipe: every option that moves scores, and how many pictures it
learnt from.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from mtlcli import lookup
from mtlcli.recipes._recipe import Recipe
from mtlcli.runs.config import RunConfig
from mtlcli.systems import _settings as settings

Departures = Mapping[str, tuple[Any, Any]]  # option -> (the run's value, the recipe's)


def find_departures(
    config: RunConfig, its: Recipe, *, device: str | None = None, images: int | None = None
) -> Departures:
    """Where a run and a recipe differ, settings one by one; what is left open differs in nothing.

    Half precision is left to the device by recipes: a run departs in it that asked for other than
    the device's own.

    Args:
        config: of the run.
        its: the recipe.
        device: that the run computed on, None where it is not known.
        images: in the training split of its dataset file, None where it is not known.
    """
    dataset = lookup.load("datasets", its.dataset).DATASET
    usual = complete(
        RunConfig(**its.options()),
        tasks=dataset.tasks,
        size=dataset.size,
        amp=None if device is None else device.startswith("cuda"),
    )
    given = complete(config, tasks=usual.tasks, size=usual.size, amp=usual.amp)
    given = given if usual.amp is not None else replace(given, amp=None)
    published = dataset.splits["train"]
    own = list_options(given) | {"training_images": published if images is None else images}
    others = list_options(usual) | {"training_images": published}
    return {
        name: (own.get(name), others.get(name))
        for name in own | others
        if own.get(name) != others.get(name)
    }


def complete(config: RunConfig, **defaults: Any) -> RunConfig:
    """A config with values for what it leaves open."""
    left = {n: v for n, v in defaults.items() if getattr(config, n) in (None, ())}
    return replace(config, **left)


def list_options(config: RunConfig) -> dict[str, Any]:
    """Every option that moves scores, all settings of its system among them; the order of tasks
    does not matter, and a crop of the whole size is none.
    """
    moving = (f.name for f in fields(config) if f.metadata.get("moves_scores", True))
    options = {name: getattr(config, name) for name in moving if name != "settings"}
    options["tasks"] = tuple(sorted(config.tasks))
    options["crop"] = None if config.crop == config.size else config.crop
    return options | settings.complete(config.system, config.settings)
