"""What is predicted: one file per task, each with its `TASK` record.

A dataset may have a task of another name: it is learnt as the usual task of its kind of map.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from mtlcli import lookup, maps
from mtlcli.maps._map import NO_OPTIONS, Options
from mtlcli.tasks._task import Task


def named(
    names: Iterable[str],
    kinds: Mapping[str, str] = NO_OPTIONS,
    options: Mapping[str, Options] = NO_OPTIONS,
) -> dict[str, Task]:
    """Tasks by their names.

    Args:
        names: of files in this folder, or of tasks that `kinds` knows.
        kinds: task -> kind of map, as a dataset says it.
        options: task -> what else the dataset says of it, see `mtlcli.maps._map.Options`.

    Raises:
        InputError: a name of no task, or a kind that there is not.
    """
    return {name: _task(name, kinds, options.get(name, NO_OPTIONS)) for name in names}


def _task(name: str, kinds: Mapping[str, str], options: Options) -> Task:
    if name in lookup.names("tasks") or name not in kinds:
        task: Task = lookup.load("tasks", name).TASK
    else:
        usual: Task = lookup.load("tasks", maps.map_of(name, kinds).usual[0]).TASK
        title = options.get("title", name.replace("_", " ").capitalize())
        task = replace(usual, title=title, question="")
    if task.map.unit and "unit" in options:
        holds = f"{task.title.lower()} in {options['unit']}, 0 or more"
        task = replace(task, unit=options["unit"], holds=holds)
    return replace(task, map=maps.adapted(task.map, options))
