"""A run beside what was published about it and beside another run, with the gain Delta%."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError
from mtlcli.files import typed
from mtlcli.recipes._recipe import Published, Recipe, recipe, recipes
from mtlcli.runs import hub_run
from mtlcli.runs.config import RunConfig, spell, typed_name
from mtlcli.runs.folder import RESULTS
from mtlcli.runs.limits import limits_of
from mtlcli.runs.names import CHECKPOINTS
from mtlcli.runs.record import Departures, Record, find_record
from mtlcli.runs.results import Scores, find_results, read_results
from mtlcli.runs.run import Run, same_pictures
from mtlcli.systems import _settings as settings


def gain(
    scores: Mapping[str, float],
    reference: Mapping[str, float],
    higher_is_better: Mapping[str, bool],
) -> float:
    """Mean over tasks of 100 (M - M_ref) / M_ref, negated where lower is better, in percent.

    The formula of Maninis et al. (arXiv 1904.08918), which arXiv 2508.04422 prints as Delta%.

    Args:
        scores: task -> main metric.
        reference: the same of what it is compared with.
        higher_is_better: task -> direction of its metric. Tasks that one lacks do not count.

    Raises:
        InputError: no task in common, or a reference of zero.
    """
    tasks = shared_tasks(scores, reference)
    if not tasks:
        own, its = (", ".join(shared_tasks(s, s)) or "nothing" for s in (scores, reference))
        raise InputError(
            f"Nothing to compare: the run has scores of {own}, the reference of {its}."
        )
    changes = []
    for task in tasks:
        if not reference[task] > 0:
            raise InputError(f"The reference's {task} is {reference[task]}: no gain against that.")
        change = 100 * (scores[task] - reference[task]) / reference[task]
        changes.append(change if higher_is_better[task] else -change)
    return sum(changes) / len(changes)


def shared_tasks(scores: Mapping[str, float], reference: Mapping[str, float]) -> list[str]:
    """The tasks in which both have a finite score, in the order of `scores`."""
    both = (task for task in scores if task in reference)
    return [t for t in both if math.isfinite(scores[t]) and math.isfinite(reference[t])]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a gain is against."""

    name: str
    scores: Scores


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The rows that belong under a run's own, and its gain."""

    recipe: Recipe | None
    departures: Departures
    reference: Reference | None
    gain: float | None  # percent
    tasks: tuple[str, ...]  # that the gain is a mean over
    limits: tuple[str, ...] = ()  # why a gain over published scores is only indicative
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
            basis = f" (indicative: {'; '.join(self.limits)})" if self.limits else ""
            notes.append(f"Δ% of this run: against {self.reference.name}, over {over}{basis}.")
        if self.caution:
            notes.append(self.caution)
        if self.published and self.published.gain is not None:
            published = self.published
            notes.append(f"Δ% as published: {published.source}, against {published.reference}.")
        if self.departures:
            pairs = self.departures.items()
            changes = (
                f"{typed_name(n)} {spell(own)} (recipe: {spell(its)})" for n, (own, its) in pairs
            )
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
            "gain_indicative": list(self.limits),
        }


def compare(
    run: Run, higher_is_better: Mapping[str, bool], reference: Run | None = None
) -> Comparison:
    """Find what a scored run is to be compared with, and compare: there is no gain, but a caution,
    over a reference that was scored on other pictures, shares no score or has one of zero.

    Args:
        run: with its results.
        higher_is_better: task -> direction of its main score.
        reference: to compare with instead of what the run's recipe names (see `read_reference`).
    """
    found = recipe_of(run.config)
    against = published_reference(found)
    if against and not shared_tasks(run.main, against.scores):
        against = None
    if reference:
        against = Reference(name=reference.name, scores=reference.main)
    caution, gained = distinguish(run, reference) if reference else "", None
    try:
        gained = gain(run.main, against.scores, higher_is_better) if against else None
    except InputError as error:
        caution = caution or str(error)
    tasks = tuple(shared_tasks(run.main, against.scores)) if against else ()
    return Comparison(
        recipe=found,
        departures=run.record.departures(found) if found else {},
        reference=against,
        gain=None if caution else gained,
        tasks=tasks,
        limits=() if reference else limits_of(run, tasks),
        caution=caution,
    )


def distinguish(run: Run, reference: Run) -> str:
    """What to say where two scored runs were scored on different pictures, else ""."""
    if same_pictures(run, reference) or not run.results or not reference.results:
        return ""
    own, its = run.results.pictures_scored, reference.results.pictures_scored
    another = " of another file" if own == its else ""
    return f"{reference.name} was scored on {its}{another}, this run on {own}: no Δ%."


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


def published_reference(found: Recipe | None) -> Reference | None:
    """The published row that the recipe's own gain is against."""
    name = found.published[0].reference if found else ""
    if not name:
        return None
    return Reference(name=f"published {name}", scores=recipe(name).published[0].scores)


def read_reference(path: Path) -> Run:
    """A scored run, from its folder or its results.json alone.

    Raises:
        InputError: there is none, or it holds something else.
    """
    file = find_results(path) if path.is_dir() else path
    if file.suffix in CHECKPOINTS:
        file = file.with_name(RESULTS)
    if not file.is_file():
        raise InputError(
            f"--reference {path}: there is no {file}; `mtl eval {typed(path)}` writes it."
        )
    results = read_results(file)
    record = find_record(path / RESULTS if path.is_dir() else file)
    return Run(
        name=hub_run.name_of(path) or str(path),
        folder=path if path.is_dir() else file.parent,
        record=record or Record(config=results.config, dataset=Info()),
        results=results,
    )
