"""`mtl serve`."""

from pathlib import Path
from typing import Annotated

import typer

from mtlcli.commands import _completion
from mtlcli.commands._options import Device


def serve(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Name of a run, its folder, a checkpoint, an exported file, or "
            "hf:USER/REPO[@REV]. Default: the newest run that is finished, scored and trained on "
            "real pictures, else that of mtl.",
            autocompletion=_completion.runs,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets other computers in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.", min=1, max=65535)] = 7860,
    device: Device = "auto",
) -> None:
    """Open a local page that predicts what is dropped there."""
    from functools import partial

    from mtlcli.page.serve import serve

    serve(run, host=host, port=port, device=device, announce=partial(print, flush=True))
