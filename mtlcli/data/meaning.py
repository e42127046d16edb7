"""What the labels of a task say, and whether two dataset files agree on it."""

from collections.abc import Iterable
from pathlib import Path

from mtlcli import maps
from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError


def require_same_labels(path: Path, found: Info, trained: Info, tasks: Iterable[str]) -> None:
    """Refuse a dataset file whose labels mean something else than those a network has learnt.

    Args:
        path: of the file.
        found: what it says of itself.
        trained: what the file said that the network was trained on.
        tasks: of the network; those that the file lacks are passed over.

    Raises:
        InputError: names the first task that differs, and how.
    """
    for task in tasks:
        if task in found.tasks and (said := describe_difference(task, found, trained)):
            raise InputError(
                f"{path}: the labels of '{task}' are not those that the network was trained on: "
                f"{said}. Put the file of then back, or train anew on this one."
            )


def describe_difference(task: str, found: Info, trained: Info) -> str:
    """How the labels of a task in two files differ in kind, unit or classes; "" if they do not."""
    now, then = (_say_map(task, info) for info in (found, trained))
    if now != then:
        return f"they are {now}, then {then}"
    classes, before = (info.classes.get(task, ()) for info in (found, trained))
    if len(classes) != len(before):
        return f"they have {len(classes)} classes, then {len(before)}"
    differing = ((i, *names) for i, names in enumerate(zip(classes, before)) if len({*names}) > 1)
    return next((f"class {i} is '{new}', then '{old}'" for i, new, old in differing), "")


def _say_map(task: str, info: Info) -> str:
    unit = info.options.get(task, {}).get("unit", info.map(task).unit)
    kind = maps.kind_of(task, info.kinds)
    return f"{kind} in {unit}" if unit else kind
