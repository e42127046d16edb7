"""Which runs were scored on the same pictures: only their scores can be compared."""

from collections.abc import Iterable, Sequence
from typing import Any

from mtlcli import lookup
from mtlcli.report.runs import Run

PUBLISHED_SPLIT = "val"  # that papers print scores of, complete


def sets_of(runs: Iterable[Run]) -> list[list[Run]]:
    """The scored runs, those together that were scored on the same pictures."""
    sets: list[list[Run]] = []
    for run in runs:
        fitting = (s for s in sets if all(same_pictures(run, member) for member in s))
        found = next(fitting, None)
        if found is None:
            sets.append([run])
        else:
            found.append(run)
    return sets


def same_pictures(one: Run, other: Run) -> bool:
    """Whether nothing that is known of two scored runs tells their pictures apart."""
    pairs = zip((*part_of(one), *file_of(one, other)), (*part_of(other), *file_of(other, one)))
    return all(a == b for a, b in pairs if a is not None and b is not None)


def part_of(run: Run) -> tuple[Any, ...]:
    """What part of its dataset file a run was scored on: split, number and names."""
    results = run.results or {}
    names = results.get("pictures")
    return results.get("split"), results.get("images"), frozenset(names) if names else None


def file_of(run: Run, other: Run) -> tuple[Any, ...]:
    """What tells a run's dataset file from another's: the fingerprint of what was scored, or that
    of what it was trained on, which depends on the tasks, or else what the file was made by.
    """
    scored = [(r.results or {}).get("fingerprint") for r in (run, other)]
    if all(scored):
        return (scored[0],)
    same_tasks = run.config.tasks == other.config.tasks
    if same_tasks and run.record.get("fingerprint") and other.record.get("fingerprint"):
        return (run.record["fingerprint"],)
    return (run.dataset.shape, run.dataset.geometry, run.dataset.request)


def complete(dataset: str) -> int | None:
    """Pictures that published scores of a dataset are means over; None if it is not known."""
    if dataset not in lookup.names("datasets"):
        return None
    return lookup.load("datasets", dataset).DATASET.splits.get(PUBLISHED_SPLIT)


def is_complete(run: Run) -> bool:
    """Whether a run was scored on what published scores are of."""
    split, images, _ = part_of(run)
    return split == PUBLISHED_SPLIT and images == complete(run.config.dataset)


def warning(sets: Sequence[Sequence[Run]], published: int | None) -> str:
    """What a reader must not compare; empty where all is of the same pictures.

    Args:
        sets: see `sets_of`.
        published: pictures that published rows beside them are of, None without such rows.
    """
    said: list[str] = []
    parts = []
    for members in sets:
        split, images, _ = part_of(members[0])
        label = f"{images} images of {split}"
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
