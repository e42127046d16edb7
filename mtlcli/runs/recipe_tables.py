"""What `mtl recipes` prints: all recipes, one with every row published of it, and others' rows."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING

from mtlcli.recipes._recipe import Recipe
from mtlcli.recipes._reported import Reported
from mtlcli.runs.config import spell
from mtlcli.runs.table import columns, markdown, number
from mtlcli.systems._settings import flag

if TYPE_CHECKING:
    from mtlcli.tasks._task import Task

HIDDEN = ("settings", "recipe")  # of a recipe's options: said otherwise
NO_RECIPES = "Others report these rows, to compare with: none is a recipe. Those: `mtl recipes`."


def recipes_table(known: Iterable[Recipe]) -> str:
    """A table per dataset: published scores and Delta%, start, parameters, cost of training, source
    and note; the notes stand below.
    """
    known = list(known)
    notes = list(dict.fromkeys(its.note for its in known if its.note))
    tables = []
    for dataset, group in groupby(known, key=lambda its: its.dataset):
        members = list(group)
        tasks = tasks_of(members)
        head = [dataset, *headings(tasks), "Δ%", "init", "parameters", "train EFLOP", "source"]
        tables.append(markdown([*head, "note"], [recipe_row(r, tasks, notes) for r in members]))
    numbered = [f"[{i}] {note}" for i, note in enumerate(notes, start=1)]
    ways = "`mtl recipes NAME` shows one and its costs, `mtl train --recipe NAME` trains it."
    return "\n\n".join([*tables, "\n".join([*numbered, ways])])


def recipe_row(its: Recipe, tasks: Mapping[str, "Task"], notes: list[str]) -> list[str]:
    """One line of `mtl recipes`."""
    first = its.published[0]
    cost = [f"{its.cost.parameters:,}", f"{its.training_eflop:.2f}"]
    note = f"[{notes.index(its.note) + 1}]" if its.note else ""
    cells = [*score_cells(first.scores, tasks), percent(first.gain), its.init, *cost]
    return [its.name, *cells, first.source, note]


def recipe_text(its: Recipe) -> str:
    """All that is published of one recipe, and the options it stands for."""
    tasks = tasks_of([its])
    rows = [
        [p.source, *score_cells(p.scores, tasks), percent(p.gain), p.reference or "-"]
        for p in its.published
    ]
    options = its.options() | dict(its.settings)
    half = options.pop("amp", None)
    typed = [f"{flag(name)} {spell(v)}" for name, v in options.items() if name not in HIDDEN]
    typed += {None: [], True: ["--amp"], False: ["--no-amp"]}[half]
    lines = [
        f"`mtl train --recipe {its.name}` is `mtl train {' '.join(typed)}`.",
        f"Note: {its.note}." if its.note else "",
        f"{its.cost.parameters:,} parameters, {its.cost.forward_tflop:g} TFLOP forward a picture, "
        f"{its.training_eflop:.2f} EFLOP in {its.iterations:,} iterations of {its.batch_size}.",
    ]
    head = [its.name, *headings(tasks), "Δ%", "against"]
    return "\n".join([markdown(head, rows), "", *filter(None, lines)])


def reported_table(rows: Iterable[Reported]) -> str:
    """A table per dataset of what others report, by backbone, each row with its source."""
    tables = []
    for dataset, group in groupby(rows, key=lambda its: its.dataset):
        members = list(group)
        tasks = tasks_of(members)
        facts = ("init", "year", "M params", "GFLOP", "source", "note")
        head = [dataset, "method", *headings(tasks), *facts]
        tables.append(markdown(head, [reported_row(its, tasks) for its in members], left=2))
    return "\n\n".join([*tables, NO_RECIPES])


def reported_row(its: Reported, tasks: Mapping[str, "Task"]) -> list[str]:
    """One line of `mtl recipes --published`."""
    costs = ["-" if cost is None else f"{cost:g}" for cost in (its.parameters, its.gflop)]
    cells = [*score_cells(its.scores, tasks), its.init or "-", str(its.year), *costs]
    return [its.backbone, its.method, *cells, its.source, its.note]


def tasks_of(rows: Iterable[Recipe | Reported]) -> dict[str, "Task"]:
    """All tasks that any of the rows has a score of, by name."""
    from mtlcli import tasks

    scores = [r.scores if isinstance(r, Reported) else r.published[0].scores for r in rows]
    return tasks.named(dict.fromkeys(task for its in scores for task in its))


def headings(tasks: Mapping[str, "Task"]) -> list[str]:
    """Of the columns of scores."""
    return [heading for heading, _ in columns(tasks).values()]


def score_cells(scores: Mapping[str, float], tasks: Mapping[str, "Task"]) -> list[str]:
    """A score for each task, a dash where there is none."""
    return [number(scores.get(name, float("nan")), task.unit) for name, task in tasks.items()]


def percent(gain: float | None) -> str:
    """A gain as printed, a dash where none is."""
    return "-" if gain is None else f"{gain:.2f}"
