"""`mtl bench attention`."""

from typing import Annotated

import typer

from mtlcli.commands import _completion
from mtlcli.commands._options import AsJson, Device, Quiet, SizeOption, print_json


def bench_attention(
    dataset: Annotated[
        str,
        typer.Option(help="Whose size and number of tasks.", autocompletion=_completion.datasets),
    ] = "nyud",
    tasks: Annotated[int | None, typer.Option(help="How many exchange their maps.")] = None,
    size: SizeOption = None,
    dtype: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16, of ours.")] = None,
    backward: Annotated[bool, typer.Option(help="Forward and backward together, too.")] = True,
    repeats: Annotated[int, typer.Option(help="Runs of what is quick.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="An eighth of the sides.")] = False,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Time deformable against global attention, in one run."""
    from mtlcli.scoring.bench_attention import bench

    measured = bench(
        dataset=dataset,
        tasks=tasks,
        size=size,
        dtype=dtype,
        backward=backward,
        repeats=repeats,
        quick=quick,
        device=device,
        quiet=quiet,
    )
    if as_json:
        print_json(measured.to_json())
    else:
        print(measured.table())
