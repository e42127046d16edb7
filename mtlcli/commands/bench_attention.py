"""`mtl bench attention`."""

from pathlib import Path
from typing import Annotated

import typer

from mtlcli.commands import _completion
from mtlcli.commands._options import AsJson, Device, Force, Quiet, SizeOption, print_json


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
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Also over 2 to 8 tasks and over image sizes.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help=".png, .pdf or .svg of --scaling.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="An eighth of the sides.")] = False,
    slow: Annotated[bool, typer.Option("--slow", help="Run whole what takes minutes.")] = False,
    force: Force = False,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Time deformable against global attention, in one run."""
    from mtlcli.bench.attention import bench
    from mtlcli.ours import require_ours

    if plot:
        require_ours("--plot", plot, force)
    measured = bench(
        dataset=dataset,
        tasks=tasks,
        size=size,
        dtype=dtype,
        backward=backward,
        repeats=repeats,
        grow=scaling or plot is not None,
        quick=quick,
        slow=slow,
        device=device,
        quiet=quiet,
    )
    if plot and measured.scaling:
        from mtlcli.bench.scaling import plot as draw

        draw(measured.scaling, plot)
    if as_json:
        print_json(measured.to_json())
    else:
        print(measured.table())
