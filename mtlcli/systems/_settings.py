"""The settings of a system: the keyword arguments of its `build`, as options of the command line.

`build(channels, backbone, *, steps: int = 3, ...)` makes `--steps 1` an option of `mtl train`. So a
new system brings its own options along, and no other file has to know them.
"""

import inspect
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from mtlcli import lookup
from mtlcli.errors import InputError
from mtlcli.files import fits

LARGEST = 1e9  # no setting of a network is larger


def defaults(system: str) -> dict[str, Any]:
    """Names and default values of the settings of a system."""
    return {p.name: p.default for p in parameters(system)}


def kinds(system: str) -> dict[str, type]:
    """Names and types of the settings of a system; of `int | None` the int."""
    return {p.name: kind(p) for p in parameters(system)}


def parameters(system: str) -> list[inspect.Parameter]:
    """The settings as `build` declares them."""
    build = lookup.load("systems", system).build
    declared = inspect.signature(build, eval_str=True).parameters.values()
    return [p for p in declared if p.kind is p.KEYWORD_ONLY]


def about(system: str) -> str:
    """What `build` says of itself before its arguments."""
    return documented(system).partition("\n\nArgs:\n")[0]


def meanings(system: str) -> dict[str, str]:
    """What the docstring of `build` says of each setting, "" of one that it leaves out."""
    section = documented(system).partition("\n\nArgs:\n")[2].partition("\n\n")[0]
    entries = re.split(r"^ {4}(?=\w+: )", section, flags=re.MULTILINE)
    told = dict(" ".join(entry.split()).split(": ", 1) for entry in entries if entry.strip())
    return {name: told.get(name, "") for name in defaults(system)}


def documented(system: str) -> str:
    """The docstring of `build`, "" if there is none."""
    return inspect.getdoc(lookup.load("systems", system).build) or ""


def choices(system: str) -> dict[str, tuple[Any, ...]]:
    """The values that settings may have, of those that are chosen from a few."""
    chosen = (p for p in parameters(system) if get_origin(p.annotation) is Literal)
    return {p.name: get_args(p.annotation) for p in chosen}


def kind(parameter: inspect.Parameter) -> type:
    """The type of a setting's values."""
    if parameter.default is not None:
        return type(parameter.default)
    kinds: list[type] = [k for k in get_args(parameter.annotation) if k is not NoneType]
    return kinds[0]


def complete(system: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a system: those given, as the types that `build` declares, and the
    others.

    Raises:
        InputError: a setting the system does not have, or a value of another type or not among its
        choices.
    """
    known, types = defaults(system), kinds(system)
    for name in given:
        if name not in known:
            raise InputError(describe_unknown(name, system, known))
    values = {n: convert(n, value, types[n]) for n, value in given.items()}
    for name, chosen in choices(system).items():
        if name in values and values[name] not in chosen:
            listed = ", ".join(map(str, chosen))
            raise InputError(f"{flag(name)} {values[name]}: choose one of {listed}.")
    for its in parameters(system):
        if its.name in values and not fits(values[its.name], its.annotation):
            needed = types[its.name].__name__
            raise InputError(f"{flag(its.name)} {values[its.name]!r}: needs a {needed}.")
        if isinstance(values.get(its.name), float) and not math.isfinite(values[its.name]):
            raise InputError(f"{flag(its.name)} {values[its.name]}: must be a finite number.")
    return known | values


def cast(value: Any, declared: Any) -> Any:
    """A value that `fits`, as the command line gives it: lists as tuples, fractions as floats."""
    origin, parts = get_origin(declared), get_args(declared)
    if origin in (Union, UnionType):
        declared = next(part for part in parts if fits(value, part))
        return cast(value, declared)
    if origin is tuple:
        each = [parts[0]] * len(value) if parts[-1] is ... else parts
        return tuple(map(cast, value, each))
    return float(value) if declared is float else value


def merge(options: Mapping[str, Any], explicit: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a run, fields of `RunConfig`, replaced by those given explicitly: settings one by
    one, but another system has only those given.
    """
    system = options.get("system")
    same = system is None or explicit.get("system", system) == system
    own = options.get("settings", {}) if same else {}
    return {**options, **explicit, "settings": {**own, **explicit.get("settings", {})}}


def all_names() -> set[str]:
    """The settings of all systems."""
    return {name for system in lookup.names("systems") for name in defaults(system)}


def refuse_typos(given: Iterable[str], options: Sequence[str]) -> None:
    """A word that is no setting of any system, but nearly an option (`--itertions`).

    Raises:
        InputError: names the option that is near.
    """
    known = all_names()
    for name in sorted({*given} - known):
        near = lookup.nearest(flag(name), [*options, *map(flag, known)])
        if near in options:
            raise InputError(f"There is no option {flag(name)}. Did you mean {near}?")


def describe_unknown(name: str, system: str, known: Mapping[str, Any]) -> str:
    """What to say of an option that neither `mtl train` nor the system has."""
    hint = lookup.suggest(flag(name), map(flag, known), mark="")
    listed = ", ".join(map(flag, known)) or "none"
    return f"There is no option {flag(name)} for system {system}.{hint} Its settings: {listed}."


def convert(name: str, value: Any, kind: type) -> Any:
    """A value, perhaps still a word of the command line, as a setting of this type."""
    if not isinstance(value, str) or kind is str:
        return value
    try:
        found = truth(value) if kind is bool else kind(value)
        if not abs(found) < LARGEST:  # false for NaN, too
            raise ValueError(value)
        return found
    except ValueError as error:
        needed = "true or false" if kind is bool else f"a {kind.__name__} below {LARGEST:g}"
        raise InputError(f"{flag(name)} {value}: needs {needed}.") from error


def truth(word: str) -> bool:
    """true / false, in the usual spellings."""
    if word.lower() in ("true", "yes", "1"):
        return True
    if word.lower() in ("false", "no", "0"):
        return False
    raise ValueError(word)


def flag(name: str) -> str:
    """gradient_scale -> --gradient-scale."""
    return "--" + name.replace("_", "-")


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """`--name value`, `--name=value` and bare `--name` (true) as a dict with underscored names.

    Raises:
        InputError: a word that belongs to no option.
    """
    given: dict[str, str] = {}
    pending = list(arguments)
    while pending:
        word = pending.pop(0)
        if not word.startswith("--"):
            raise InputError(f"'{word}' belongs to no option; see `mtl train --help`.")
        name, equals, value = word[2:].partition("=")
        if not equals:
            has_value = bool(pending) and not pending[0].startswith("--")
            value = pending.pop(0) if has_value else "true"
        given[name.replace("-", "_")] = value
    return given
