"""All recipes, and the one of a name."""

from collections.abc import Mapping
from typing import Any

from mtlcli import lookup
from mtlcli.errors import InputError
from mtlcli.recipes._recipe import Recipe


def recipes() -> dict[str, Recipe]:
    """Every recipe by its name."""
    files = (lookup.load("recipes", name) for name in lookup.names("recipes"))
    return {recipe.name: recipe for file in files for recipe in file.RECIPES}


def recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    known = recipes()
    if name not in known:
        hint = lookup.suggest(name, known)
        raise InputError(f"There is no recipe '{name}'.{hint} `mtl recipes` lists them.")
    return known[name]


def options(name: str, explicit: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `RunConfig`: those of a recipe, replaced by those given explicitly.

    Settings replace one by one; another system than the recipe's has only those given.

    Raises:
        InputError: there is no such recipe.
    """
    its = recipe(name).options()
    same = explicit.get("system", its["system"]) == its["system"]
    settings = (its["settings"] if same else {}) | dict(explicit.get("settings", {}))
    return its | dict(explicit) | {"settings": settings}
