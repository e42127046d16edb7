"""What a label looks like as numbers, in a file and to the eye: a kind of map is one file, its name
is the kind. Without torch; what is learnt of a map stands in `mtlcli.tasks`.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from mtlcli import lookup
from mtlcli.errors import InputError
from mtlcli.maps._map import NO_OPTIONS, Map, Options


def usual_kind(task: str) -> str:
    """The kind of map of a task of the field.

    Raises:
        InputError: the field has no such task, so its dataset must say the kind.
    """
    known = _usual_kinds()
    if task not in known:
        raise InputError(
            f"task '{task}' is none of {', '.join(sorted(known))}: give it a kind, one of "
            f"{', '.join(lookup.names('maps'))}."
        )
    return known[task]


def is_usual(task: str) -> bool:
    """Whether it is a task of the field, whose kind is known."""
    return task in _usual_kinds()


def kind_of(task: str, kinds: Mapping[str, str] = NO_OPTIONS) -> str:
    """The kind of map of a task of a dataset that says these kinds (raises as `usual_kind`)."""
    return kinds.get(task) or usual_kind(task)


def map_of(task: str, kinds: Mapping[str, str] = NO_OPTIONS, options: Options = NO_OPTIONS) -> Map:
    """The map of a task of a dataset.

    Args:
        task: its name.
        kinds: task -> kind of map, for tasks that the field does not know.
        options: of the task on this dataset; "zoom" false says that values stay what they are
            when a thing is seen from nearer.

    Raises:
        InputError: no such kind, or none is said for a task that the field does not know.
    """
    return adapted(_named(kind_of(task, kinds)), options)


def adapted(map: Map, options: Options) -> Map:
    """The map as a dataset's options want it."""
    return map if options.get("zoom", True) else replace(map, zoom=None)


@cache
def _named(kind: str) -> Map:
    found: Map = lookup.load("maps", kind).MAP
    return found


@cache
def _usual_kinds() -> dict[str, str]:
    return {task: kind for kind in lookup.names("maps") for task in _named(kind).usual}
