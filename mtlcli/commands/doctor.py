"""`mtl doctor`."""

import typer

from mtlcli.commands._options import AsJson, print_json


def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, what is whole, and what to do next.

    Looks through datasets, weights and runs. Exit code 1 if a file is damaged.
    """
    from mtlcli.runs.health import examine

    health = examine()
    if as_json:
        print_json(health.to_json())
    else:
        print(health.text())
    if not health.is_sound:
        raise typer.Exit(1)
