"""Options of a command from the fields of records: a field and its help are written once."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, get_args, get_type_hints

import typer

from mtlcli.commands import _completion

COMPLETED = {
    "dataset": _completion.prepared,
    "system": _completion.systems,
    "backbone": _completion.backbones,
    "tasks": _completion.tasks,
    "recipe": _completion.recipes,
    "from_run": _completion.runs,
}
METAVARS: dict[Any, str] = {
    tuple[int, int]: "H W",
    tuple[float, float]: "MIN MAX",
    tuple[float, float, float]: "R G B",
}
SHORT = {"tasks": "task"}  # what is repeated has the name of one


def options_of(*records: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command that takes the fields of dataclasses as options, beside its own parameters.

    A field becomes an option of its name, type and default if its metadata says `help`; the
    command gets the values as keyword arguments, by the names of the fields' options.
    """
    made = [option for record in records for option in _options(record)]

    def extend(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        everything = [p.replace(kind=p.KEYWORD_ONLY) for p in (*own[:1], *made, *own[1:])]
        command.__signature__ = signature.replace(parameters=everything)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in everything}
        return command

    return extend


def pick_fields(record: type, values: dict[str, Any]) -> dict[str, Any]:
    """Of a command's values those that are fields of a record, by the names of the fields."""
    names = {SHORT.get(f.name, f.name): f.name for f in fields(record)}
    return {names[name]: value for name, value in values.items() if name in names}


def _options(record: type) -> Iterator[inspect.Parameter]:
    kinds = get_type_hints(record)
    for its in fields(record):
        if "help" in its.metadata:
            yield _option(its, kinds[its.name])


def _option(its: Field[Any], kind: Any) -> inspect.Parameter:
    name = SHORT.get(its.name, its.name)
    flag = "--" + its.metadata.get("flag", name).replace("_", "-")
    plain = kind is not bool and "flag" not in its.metadata  # then typer's own name is this
    names = [f"{flag}/--no-{name}"] if kind == bool | None else [] if plain else [flag]
    default = None if its.default is MISSING else its.default
    if kind == tuple[str, ...]:
        kind, default = list[str] | None, None
    option = typer.Option(
        *names,
        help=its.metadata["help"],
        min=its.metadata.get("min"),
        metavar=next(
            (METAVARS[part] for part in get_args(kind) if part in METAVARS),
            its.metadata.get("metavar"),
        ),
        parser=its.metadata.get("parser"),
        autocompletion=COMPLETED.get(its.name),
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )
