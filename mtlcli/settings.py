"""The settings of a system: the keyword arguments of its `build`, as options of the command line.

`build(channels, backbone, *, steps: int = 3, ...)` makes `--steps 1` an option of `mtl train`. So a
new system brings its own options along, and no other file has to know them.
"""

import inspect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from mtlcli import lookup
from mtlcli.errors import InputError


def defaults(system: str) -> dict[str, Any]:
    """Names and default values of the settings of a system."""
    parameters = inspect.signature(lookup.load("systems", system).build).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def complete(system: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a system: those given, converted to the type of their defaults, and the
    others.

    Raises:
        InputError: a setting the system does not have, or a value of another type or not among its
        choices.
    """
    known = defaults(system)
    for name in given:
        if name not in known:
            raise InputError(unknown(name, system, known))
    return known | {n: convert(n, value, known[n]) for n, value in given.items()}


def unknown(name: str, system: str, known: Mapping[str, Any]) -> str:
    """What to say of an option that neither `mtl train` nor the system has."""
    nearest = get_close_matches(name, known, n=1)
    hint = f" Did you mean {flag(nearest[0])}?" if nearest else ""
    listed = ", ".join(map(flag, known)) or "none"
    return f"There is no option {flag(name)} for system {system}.{hint} Its settings: {listed}."


def convert(name: str, value: Any, default: Any) -> Any:
    """A value, perhaps still a word of the command line, as the type of the setting's default."""
    if not isinstance(value, str) or isinstance(default, str):
        return value
    try:
        return truth(value) if isinstance(default, bool) else type(default)(value)
    except ValueError as error:
        kind = "true or false" if isinstance(default, bool) else f"a {type(default).__name__}"
        raise InputError(f"{flag(name)} {value}: needs {kind}.") from error


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
