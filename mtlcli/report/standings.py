"""Scored runs, which of them can be compared, and what was published, as rows of tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mtlcli import lookup
from mtlcli.errors import InputError
from mtlcli.recipes._recipe import Recipe, recipe
from mtlcli.report.paper_table import Column, Row, Table
from mtlcli.runs.comparison import Comparison, compare, gain
from mtlcli.runs.limits import say_other_means
from mtlcli.runs.results import PUBLISHED_SPLIT, count_published
from mtlcli.runs.run import Run, same_pictures


def sets_of(runs: Iterable[Run]) -> list[list[Run]]:
    """The scored runs, those together that were scored on the same pictures."""
    sets: list[list[Run]] = []
    for run in runs:
        alike = (s for s in sets if all(same_pictures(run, member) for member in s))
        found = next(alike, None)
        if found is None:
            sets.append([run])
        else:
            found.append(run)
    return sets


def is_complete(run: Run) -> bool:
    """Whether a run was scored on what published scores are of."""
    return run.results is not None and run.results.is_complete


def warning(sets: Sequence[Sequence[Run]], published: int | None) -> str:
    """What a reader must not compare; empty where all is of the same pictures.

    Args:
        sets: see `sets_of`.
        published: pictures that published rows beside them are of, None without such rows.
    """
    said: list[str] = []
    parts = []
    for members in sets:
        label = members[0].results.pictures_scored if members[0].results else "nothing"
        said.append(label)
        another = ", of another file" if said.count(label) > 1 else ""
        parts.append(f"{', '.join(run.name for run in members)} ({label}{another})")
    partial = published is not None and not all(is_complete(s[0]) for s in sets)
    if partial:
        parts.append(f"published rows (all {published} images of {PUBLISHED_SPLIT})")
    if len(parts) < 2:
        return ""
    apart = "Bold compares each by itself, and no run has a Δ% over another's pictures."
    hint = " Δ% of a part of the pictures over published rows is a hint only." if partial else ""
    return f"Not scored on the same pictures: {'; '.join(parts)}. {apart}{hint}"


def standings(runs: Sequence[Run], reference: Run | None = None) -> list[Table]:
    """A table for each dataset of the scored runs.

    Args:
        runs: without a score they stand in no table.
        reference: that gains are against, instead of what the recipes name.

    Raises:
        InputError: the reference has no scores, or no run is of its dataset.
    """
    scored = [run for run in runs if run.results]
    datasets = dict.fromkeys(run.config.dataset for run in scored)
    if reference and not reference.results:
        raise InputError(f"--reference: {reference.lacks[0]}")
    if reference and reference.config.dataset not in datasets:
        raise InputError(
            f"--reference {reference.folder}: it is of {reference.config.dataset}, and no scored "
            f"run is (they are of {', '.join(datasets) or 'none'})."
        )
    return [
        standing(
            [run for run in scored if run.config.dataset == dataset],
            reference if reference and reference.config.dataset == dataset else None,
        )
        for dataset in datasets
    ]


def standing(runs: Sequence[Run], reference: Run | None) -> Table:
    """The table of one dataset."""
    others = [run for run in runs if not (reference and same(run, reference))]
    everyone = [*([reference] if reference else []), *others]
    columns = columns_of(everyone)
    directions = {c.task: c.higher_is_better for c in columns}
    rows: dict[str, Row] = {}  # origin -> row, no published row twice
    notes: dict[str, None] = {}  # in order, no note twice
    for run in everyone:
        comparison = compare(run, directions, reference)
        rows[run.name] = run_row(run, comparison, is_reference=run is reference)
        scored = [f"{run.name}: {run.results.summary}."] if run.results else []
        own = notes_of(run, comparison) if run is not reference else []
        notes |= dict.fromkeys([*scored, *own])
        rows = {**published_rows(comparison, reference, directions), **rows}
    sets = sets_of(everyone)
    beside = any(not row.is_run for row in rows.values())
    return Table(
        title=runs[0].dataset.title,
        columns=columns,
        rows=in_sets(rows, sets),
        notes=list(notes),
        warning=warning(sets, count_published(runs[0].config.dataset) if beside else None),
    )


def in_sets(rows: Mapping[str, Row], sets: Sequence[Sequence[Run]]) -> list[Row]:
    """Rows that know what they were scored on; published ones on what a complete run was."""
    names = {run.name: str(i) for i, members in enumerate(sets) for run in members}
    whole = next(
        (str(i) for i, members in enumerate(sets) if is_complete(members[0])),
        "published",
    )
    return [replace(row, pictures=names.get(row.origin, whole)) for row in rows.values()]


def same(run: Run, other: Run) -> bool:
    """Whether two records are of one folder."""
    return run.folder.resolve() == other.folder.resolve()


def columns_of(runs: Sequence[Run]) -> list[Column]:
    """A column for each task that any of the runs has, in the order of the first."""
    tasks = {name: task for run in reversed(runs) for name, task in run.tasks.items()}
    return [
        Column(task=n, metric=t.metric, unit=t.unit, higher_is_better=t.higher_is_better)
        for n, t in tasks.items()
    ]


def run_row(run: Run, comparison: Comparison, *, is_reference: bool) -> Row:
    """A run's own row."""
    against = comparison.reference
    return Row(
        system=title("systems", run.config.system),
        backbone=title("backbones", run.config.backbone),
        origin=run.name,
        scores=run.main,
        gain=comparison.gain,
        against=against.name if against else "",
        is_reference=is_reference,
    )


def title(folder: str, name: str) -> str:
    """A system or backbone as papers write it; its file name if it says nothing else."""
    if name not in lookup.names(folder):
        return name
    module = lookup.load(folder, name)
    return module.BACKBONE.title if folder == "backbones" else getattr(module, "TITLE", name)


def notes_of(run: Run, comparison: Comparison) -> list[str]:
    """What a reader must know of a run's means, of its gain and of its recipe."""
    means = say_other_means(run.results, run.tasks) if run.results else []
    return [f"{run.name}: {note}" for note in (*means, *comparison.notes())]


def published_rows(
    comparison: Comparison, reference: Run | None, directions: Mapping[str, bool]
) -> dict[str, Row]:
    """What was published about a run's recipe, and about the one that its gain is against."""
    if not comparison.recipe or not comparison.published:
        return {}
    names = [comparison.published.reference, comparison.recipe.name]
    found = [recipe(name) for name in names if name]
    return {r.name: published_row(r, reference, directions) for r in found}


def published_row(its: Recipe, reference: Run | None, directions: Mapping[str, bool]) -> Row:
    """A printed row; its gain is as printed, or against the reference that was asked for."""
    printed = its.published[0]
    gained, against = printed.gain, f"published {printed.reference or its.name}"
    if reference:
        fair = is_complete(reference)
        gained = gain_over(printed.scores, reference, directions) if fair else None
        against = reference.name
    return Row(
        system=title("systems", its.system),
        backbone=title("backbones", its.backbone),
        origin=f"{printed.source}{', ' + its.variant if its.variant else ''}",
        scores=printed.scores,
        gain=gained,
        against=against,
        is_run=False,
    )


def gain_over(
    scores: Mapping[str, float], reference: Run, directions: Mapping[str, bool]
) -> float | None:
    """Delta%, or None where there is no such thing."""
    try:
        return gain(scores, reference.main, directions)
    except InputError:
        return None
