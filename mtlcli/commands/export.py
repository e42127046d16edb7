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
    opset: Annotated[int, typer.Option(help="Of ONNX.")] = 18,
    fp16: Annotated[bool, typer.Option("--fp16", help="Compute in float16 what can be.")] = False,
    grid_sample: Annotated[
        bool,
        typer.Option(
            "--grid-sample",
            help="Read maps with the operator GridSample, which some runtimes get wrong.",
        ),
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also time and check it in every runtime there is.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a network as one file that runs without mtl.

    The file is run and compared with the network before it stays.
    """
    from mtlcli.formats.export import export

    done = export(
        run,
        format=format,
        size=size,
        out=out,
        opset=opset,
        fp16=fp16,
        grid_sample=grid_sample,
        compare=compare,
        force=force,
        quiet=quiet,
    )
    if as_json:
        record = asdict(done)
        print_json(record | {"checkpoint": str(done.checkpoint), "path": str(done.path)})
        return
    height, width = done.size
    print(f"{done.path}: {done.format}, pictures of {height}x{width}, {done.bytes / 1e6:.1f} MB")
    print(f"Largest difference from the network (at most {done.tolerance:g}):")
    for task, apart in done.difference.items():
        print(f"  {task:<12} {apart:.1e}")
    if done.runtimes:
        print(f"{'runtime':<12} {'MB':>7} {'ms':>8}  largest difference")
    for row in done.runtimes:
        taken = f"{1e3 * row.seconds:8.1f}" if row.seconds is not None else f"{'-':>8}"
        said = f"{max(row.difference.values()):.1e}" if row.difference else row.remark or "-"
        print(f"{row.runtime:<12} {row.bytes / 1e6:7.1f} {taken}  {said}")
