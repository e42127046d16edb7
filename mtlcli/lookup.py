"""Finds tasks, datasets, backbones and systems by the name of their file; a new file is all a new
one needs.
"""

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
        nearest = get_close_matches(name, known, n=1)
        hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
        kind = folder.removesuffix("s")
        raise InputError(f"There is no {kind} '{name}'.{hint} Known: {', '.join(known)}.")
    return import_module(f"mtlcli.{folder}.{name}")
