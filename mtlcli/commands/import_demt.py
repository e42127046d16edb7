"""`mtl import-demt`."""

from pathlib import Path
from typing import Annotated

import typer

from mtlcli.commands import _completion
from mtlcli.commands._options import AsJson, print_json
from mtlcli.files import typed


def import_demt(
    file: Annotated[Path, typer.Argument(help="Checkpoint written by DeMT's released code.")],
    dataset: Annotated[
        str | None,
        typer.Option(
            help="It was trained on; default: by its classes.", autocompletion=_completion.datasets
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a checkpoint of DeMT's own code into a run."""
    from mtlcli.runs.import_demt import import_demt

    imported = import_demt(file, dataset=dataset, out=out)
    if as_json:
        print_json(imported.to_json())
        return
    print(imported.text())
    print(f"Next:    mtl eval {typed(imported.folder)}")
