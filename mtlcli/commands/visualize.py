"""`mtl visualize`."""

from pathlib import Path
from typing import Annotated

import typer

from mtlcli.commands._options import Device, Quiet, complain


def visualize(
    source: Annotated[Path, typer.Argument(help="A picture, or a folder of pictures.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Default: the newest run.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the grids.")] = Path("visualized"),
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Draw a picture and all predictions of it as one grid."""
    from mtlcli.visualize import visualize

    drawn = visualize(source, path=checkpoint, out=out, device=device, quiet=quiet)
    print(f"Network: {drawn.checkpoint}")
    for path in drawn.written:
        print(path)
    for reason in drawn.failed.values():
        complain(reason)
    if drawn.failed:
        raise typer.Exit(1)
