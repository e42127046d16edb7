"""`mtl export`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mtlcli.commands import _completion
from mtlcli.commands._options import AsJson, Force, Quiet, Run, SizeOption, print_json


def export(
    run: Run,
    format: Annotated[
        str, typer.Option(help="onnx or pt2.", autocompletion=_completion.formats)
    ] = "onnx",
    size: SizeOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Default: beside the checkpoint; nyud_small.onnx of nyud_small."),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a network as one file that runs without mtl.

    The file is run and compared with the network before it stays.
    """
    from mtlcli.formats.export import TOLERANCE, export

    done = export(run, format=format, size=size, out=out, force=force, quiet=quiet)
    if as_json:
        record = asdict(done)
        print_json(record | {"checkpoint": str(done.checkpoint), "path": str(done.path)})
        return
    height, width = done.size
    print(f"{done.path}: {done.format}, pictures of {height}x{width}, {done.bytes / 1e6:.1f} MB")
    print(f"Largest difference from the network (at most {TOLERANCE:g}):")
    for task, apart in done.difference.items():
        print(f"  {task:<12} {apart:.1e}")
