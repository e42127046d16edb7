"""Finds tasks, datasets, backbones and systems by the name of their file; a new file is all a new
one needs.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType

from mtlcli.errors import InputError


def names(folder: str) -> tuple[str, ...]:
    """The names defined in a folder of the package, sorted; files starting with an underscore are
    not names.
    """
    places = import_module(f"mtlcli.{folder}").__path__
    return tuple(sorted(p.stem for place in places for p in Path(place).glob("[!_]*.py")))


def load(folder: str, name: str) -> ModuleType:
    """The module that defines `name`.

    Raises:
        InputError: no such name; the message lists those there are, the nearest first.
    """
    known = names(folder)
    if name not in known:
        kind, hint = folder.removesuffix("s"), suggest(name, known)
        raise InputError(f"There is no {kind} '{name}'.{hint} Known: {', '.join(known)}.")
    return import_module(f"mtlcli.{folder}.{name}")


def suggest(word: str, known: Iterable[str], mark: str = "'") -> str:
    """` Did you mean 'NAME'?` to go on with after a sentence; "" if `word` resembles no name.

    Args:
        word: as typed.
        known: what it could have been.
        mark: around the name; "" around options, files and runs.
    """
    near = nearest(word, known)
    return f" Did you mean {mark}{near}{mark}?" if near else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The name that a mistyped word resembles most, or None."""
    return next(iter(get_close_matches(word, list(known), n=1)), None)
