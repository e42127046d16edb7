"""A run beside what was published about it and beside another run, with the gain Delta%."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from mtlcli import tasks as known_tasks
from mtlcli.errors import InputError
from mtlcli.recipes._index import recipe, recipes
from mtlcli.recipes._recipe import Published, Recipe
from mtlcli.runs.config import RunConfig
from mtlcli.runs.gain import gain, shared_tasks
from mtlcli.runs.table import markdown, number
from mtlcli.systems import _settings as settings
from mtlcli.tasks._task import Task

Scores = Mapping[str, float]
SCORED_ON = ("split", "images", "fingerprint")  # keys of results.json that tell pictures apart
COMPARED = ("dataset", "backbone", "system", "settings", "init", "optimizer", "lr",
            "iterations", "batch_size", "momentum", "weight_decay", "power")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a gain is against."""

    name: str
    scores: Scores
    scored_on: Mapping[str, Any] = field(default_factory=dict)  # split, images, fingerprint


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The rows that belong under a run's own, and its gain."""

    recipe: Recipe | None
    departures: Mapping[str, tuple[Any, Any]]  # option -> (the run's value, the recipe's)
    reference: Reference | None
    gain: float | None  # percent
    tasks: tuple[str, ...]  # that the gain is a mean over
    caution: str = ""  # why there is no gain although there is a reference

    @property
    def published(self) -> Published | None:
        """The row that is printed."""
        return self.recipe.published[0] if self.recipe else None

    def rows(self) -> dict[str, Scores]:
        """Published row and reference, by the name to print."""
        rows: dict[str, Scores] = {}
        if self.recipe and self.published:
            rows[f"published: {self.recipe.name}"] = self.published.scores
        if self.reference:
            rows.setdefault(f"reference: {self.reference.name}", self.reference.scores)
        return rows

    def gains(self, own: str) -> dict[str, float | None]:
        """Delta% of every row; that of the published one is as printed."""
        gains: dict[str, float | None] = {own: self.gain}
        if self.recipe and self.published:
            gains[f"published: {self.recipe.name}"] = self.published.gain
        return gains

    def notes(self) -> list[str]:
        """What a reader must know to read the table right."""
        notes = []
        if self.reference and self.gain is not None:
            over = ", ".join(self.tasks)
            notes.append(f"Δ% of this run: against {self.reference.name}, over {over}.")
        if self.caution:
            notes.append(self.caution)
        if self.published and self.published.gain is not None:
            published = self.published
            notes.append(f"Δ% as published: {published.source}, against {published.reference}.")
        if self.departures:
            changes = (f"{n} {own} (recipe: {its})" for n, (own, its) in self.departures.items())
            notes.append(f"This run is not the recipe's: {', '.join(changes)}.")
        return notes

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return {
            "recipe": self.recipe.name if self.recipe else None,
            "departures": {name: list(pair) for name, pair in self.departures.items()},
            "published": dict(self.published.scores) if self.published else None,
            "published_gain": self.published.gain if self.published else None,
            "reference": self.reference.name if self.reference else None,
            "reference_scores": dict(self.reference.scores) if self.reference else None,
            "gain": self.gain,
            "gain_over": list(self.tasks),
        }


def compare(
    scores: Scores,
    higher_is_better: Mapping[str, bool],
    config: RunConfig,
    reference: Reference | None = None,
) -> Comparison:
    """Find what a run is to be compared with, and compare.

    Args:
        scores: task -> main metric of the run.
        higher_is_better: task -> direction of that.
        config: of the run.
        reference: to compare with instead of the recipe's (see `read_reference`).

    Raises:
        InputError: the reference shares no task with the run.
    """
    found = recipe_of(config)
    published = published_reference(found)
    if published and not shared_tasks(scores, published.scores):
        published = None
    against = reference or published
    return Comparison(
        recipe=found,
        departures=departures(config, found) if found else {},
        reference=against,
        gain=gain(scores, against.scores, higher_is_better) if against else None,
        tasks=tuple(shared_tasks(scores, against.scores)) if against else (),
    )


def on_the_same_pictures(comparison: Comparison, scored_on: Mapping[str, Any]) -> Comparison:
    """The comparison, without its gain where the reference was scored on other pictures.

    Args:
        comparison: of a run.
        scored_on: what is known of the pictures it was scored on, see `SCORED_ON`.
    """
    its = comparison.reference.scored_on if comparison.reference else {}
    known = [key for key in SCORED_ON if None not in (its.get(key), scored_on.get(key))]
    if all(its[key] == scored_on[key] for key in known):
        return comparison
    own, others = (f"{s.get('images')} images of {s.get('split')}" for s in (scored_on, its))
    another = " of another file" if own == others else ""
    assert comparison.reference is not None
    caution = (
        f"{comparison.reference.name} was scored on {others}{another}, this run on {own}: no Δ%."
    )
    return replace(comparison, gain=None, caution=caution)


def recipe_of(config: RunConfig) -> Recipe | None:
    """The recipe a run was made by, or else the nearest of the same dataset, backbone and system:
    the one with the same settings, or the one without a variant.
    """
    known = recipes()
    if config.recipe in known:
        return known[config.recipe]
    same = [
        r
        for r in known.values()
        if (r.dataset, r.backbone, r.system) == (config.dataset, config.backbone, config.system)
    ]
    own = settings.complete(config.system, config.settings) if same else {}
    alike = [r for r in same if settings.complete(r.system, r.settings) == own]
    return next(iter(alike or same), None)


def departures(config: RunConfig, its: Recipe) -> dict[str, tuple[Any, Any]]:
    """Option -> (the run's value, the recipe's) where they differ; settings one by one."""
    own, recipes_ = flat(config), flat(RunConfig(**its.options()))
    return {
        name: (own.get(name), recipes_.get(name))
        for name in own | recipes_
        if own.get(name) != recipes_.get(name)
    }


def flat(config: RunConfig) -> dict[str, Any]:
    """Every option that decides what a run computes, its system's settings among them."""
    options = {name: getattr(config, name) for name in COMPARED if name != "settings"}
    return options | settings.complete(config.system, config.settings)


def published_reference(found: Recipe | None) -> Reference | None:
    """The published row that the recipe's own gain is against."""
    name = found.published[0].reference if found else ""
    if not name:
        return None
    return Reference(name=f"published {name}", scores=recipe(name).published[0].scores)


def read_reference(path: Path) -> Reference:
    """The main scores of a run, from its folder or its results.json.

    Raises:
        InputError: there is none, or it holds something else.
    """
    file = path / "results.json" if path.is_dir() else path
    if file.suffix == ".pt":
        file = file.with_name("results.json")
    if not file.is_file():
        raise InputError(f"--reference {path}: there is no {file}; `mtl eval {path}` writes it.")
    try:
        record = json.loads(file.read_text())
        main = record["main"]
        scored_on = {key: record.get(key) for key in SCORED_ON}
        scores = {n: math.nan if value is None else float(value) for n, value in main.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"--reference {path}: {file} holds no scores of `mtl eval`.") from error
    return Reference(name=str(path), scores=scores, scored_on=scored_on)


def recipes_table(known: Iterable[Recipe]) -> str:
    """A table per dataset: published scores and Delta%, start, parameters and cost of training."""
    tables = []
    for dataset, group in groupby(known, key=lambda r: r.dataset):
        members = list(group)
        tasks = known_tasks.named(members[0].published[0].scores)
        measures = [f"{name} {task.metric}" for name, task in tasks.items()]
        head = [dataset, *measures, "Δ%", "init", "parameters", "train EFLOP"]
        tables.append(markdown(head, [recipe_row(r, tasks) for r in members]))
    return "\n\n".join(tables)


def recipe_row(its: Recipe, tasks: Mapping[str, Task]) -> list[str]:
    """One line of `mtl recipes`."""
    published = its.published[0]
    change = "-" if published.gain is None else f"{published.gain:.2f}"
    cells = [number(published.scores[name], task.unit) for name, task in tasks.items()]
    cost = [f"{its.cost.parameters:,}", f"{its.training_eflop:.2f}"]
    return [its.name, *cells, change, its.init, *cost]
