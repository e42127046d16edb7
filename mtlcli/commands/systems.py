"""`mtl systems`."""

import inspect
from typing import Annotated

import typer


def systems(
    name: Annotated[str | None, typer.Argument(help="Show the settings of this one.")] = None,
) -> None:
    """List the systems, or the settings of one."""
    from mtlcli import lookup, settings

    for system in [name] if name else lookup.names("systems"):
        module = lookup.load("systems", system)
        print(f"{system}: {(module.__doc__ or '').strip().splitlines()[0]}")
    if name:
        print(f"\n{inspect.getdoc(module.build)}\n\nDefaults:")
        for setting, default in settings.defaults(name).items():
            print(f"  {settings.flag(setting)} {default}")
