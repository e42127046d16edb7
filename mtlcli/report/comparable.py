"""Which runs of a table can be compared, and what to say of those that cannot."""

from collections.abc import Iterable, Sequence

from mtlcli.runs.results import PUBLISHED_SPLIT
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
