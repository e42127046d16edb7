"""`mtl systems`."""

import shutil
import textwrap
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from mtlcli.commands import _completion
from mtlcli.commands._options import AsJson, print_json

WIDEST = 110  # characters of a line


def systems(
    name: Annotated[
        str | None,
        typer.Argument(help="Show the settings of this one.", autocompletion=_completion.systems),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the systems, or the settings of one."""
    from mtlcli import lookup

    names = [name] if name else lookup.names("systems")
    if as_json:
        print_json({system: record(system) for system in names})
    elif name:
        print(f"{name}: {headline(name)}\n\n{explain(name)}")
    else:
        for system in names:
            print(f"{system}: {headline(system)}")
        print("\n`mtl systems NAME` shows the settings of one.")


def headline(system: str) -> str:
    """What it is, in a line."""
    from mtlcli import lookup

    return (lookup.load("systems", system).__doc__ or "").strip().partition("\n")[0]


def record(system: str) -> dict[str, Any]:
    """All that is to be said of a system."""
    from mtlcli.systems import _settings as settings

    meanings, choices = settings.meanings(system), settings.choices(system)
    return {
        "title": headline(system),
        "about": settings.about(system),
        "settings": {
            setting: {
                "default": default,
                "meaning": meanings[setting],
                "choices": list(choices.get(setting, ())),
            }
            for setting, default in settings.defaults(system).items()
        },
    }


def explain(system: str) -> str:
    """Its settings as options of `mtl train`, each with its default and its meaning."""
    from mtlcli.systems import _settings as settings

    known = record(system)["settings"]
    head = {
        setting: f"{settings.flag(setting)} {format_options(entry)}"
        for setting, entry in known.items()
    }
    left = max(map(len, head.values())) + 2
    line = min(WIDEST, shutil.get_terminal_size().columns)
    rows = [
        textwrap.fill(
            known[setting]["meaning"],
            max(line, left + 30),
            initial_indent=f"  {option:{left}}",
            subsequent_indent=" " * (left + 2),
            break_on_hyphens=False,
        )
        for setting, option in head.items()
    ]
    options = "\n".join(["Options of `mtl train`, with their defaults:", *rows])
    return f"{settings.about(system)}\n\n{options}"


def format_options(entry: Mapping[str, Any]) -> str:
    """The default of a setting first, then what else can be chosen."""
    others = [choice for choice in entry["choices"] if choice != entry["default"]]
    return "|".join(map(format_default, (entry["default"], *others)))


def format_default(default: Any) -> str:
    """A default as one would type it."""
    if default is None:
        return "(automatic)"
    return str(default).lower() if isinstance(default, bool) else str(default)
