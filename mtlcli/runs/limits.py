"""What the scores of a run are not of, that published ones are: a gain over these says so."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mtlcli import datasets, lookup
from mtlcli.runs.results import Results, count_published
from mtlcli.runs.run import Run
from mtlcli.runs.table import number

if TYPE_CHECKING:
    from mtlcli.tasks._task import Task


def limits_of(run: Run, tasks: Sequence[str]) -> tuple[str, ...]:
    """In what the scores of a run are not of what the published ones are of: other pictures, labels
    that were derived here, another rule of a metric.

    Args:
        run: with its results.
        tasks: that are compared.
    """
    if not run.results or run.config.dataset not in lookup.names("datasets"):
        return ()
    known, file = datasets.find(run.config.dataset), run.dataset
    derived = [task for task in tasks if task in file.derived]
    found = [run.results.part, f"labels derived here: {', '.join(derived)}" if derived else ""]
    if known.sources and file.shape and tuple(file.shape) != known.size:
        sizes = ("x".join(map(str, size)) for size in (file.shape, known.size))
        found.append("pictures of {} instead of {}".format(*sizes))
    for task in tasks:
        chosen = (run.results.options or {}).get(task, {}).get("ids")
        every = count_published(run.config.dataset) if chosen else None
        published, counted = known.counted.get(task, every), run.results.count(task)
        if published and counted != published:
            found.append(f"{task} on {counted} instead of {published} pictures")
        found += other_rules(task, run.results.options, known.options.get(task, {}))
    return tuple(filter(None, found))


def other_rules(
    task: str, own: Mapping[str, Mapping[str, Any]] | None, usual: Mapping[str, Any]
) -> list[str]:
    """Where the options of a task's metric are not the dataset's; nothing of what is not known."""
    used = own.get(task, {}) if own else usual
    return [
        f"{task} {name} {used.get(name, 'unset')} instead of {value}"
        for name, value in usual.items()
        if used.get(name, "unset") != value
    ]


def say_other_means(results: Results, tasks: "Mapping[str, Task]") -> list[str]:
    """A line for each task whose mean leaves out classes that no label of the split has: what it is
    by the field's division by all classes.
    """
    lines = []
    for name, task in tasks.items():
        mean, over_all = results.main[name], results.scores.get(name, {}).get(f"{task.metric}/all")
        if over_all is not None and mean > over_all:
            lines.append(
                f"{name} {task.metric} over all classes, those without a label here counted 0 as "
                f"the field does: {number(over_all, task.unit)}."
            )
    return lines
