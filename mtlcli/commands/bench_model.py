"""`mtl bench model`."""

from typing import Annotated

import typer

from mtlcli.commands import _completion
from mtlcli.commands._options import AsJson, Backbone, Device, SizeOption, System, Tasks, print_json


def bench_model(
    context: typer.Context,
    system: System = "demt_itsa",
    backbone: Backbone = "hrnet18",
    dataset: Annotated[
        str,
        typer.Option(
            help="Whose tasks and classes; no file needed.", autocompletion=_completion.datasets
        ),
    ] = "nyud",
    task: Tasks = None,
    size: SizeOption = None,
    params_only: Annotated[bool, typer.Option("--params-only", help="Count, do not run.")] = False,
    slow: Annotated[
        bool, typer.Option("--slow", help="Also run what takes a CPU minutes.")
    ] = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Count parameters and operations, measure memory and time.

    All of them part by part.

    The settings of the system are options too, for example `--steps 1 --query pixel`.
    """
    from mtlcli.runs.config import RunConfig
    from mtlcli.scoring.bench_model import bench
    from mtlcli.systems import _settings as settings

    config = RunConfig(
        dataset=dataset,
        system=system,
        backbone=backbone,
        init="random",
        tasks=tuple(task or ()),
        size=size,
        settings=settings.parse(context.args),
    )
    measured = bench(config, params_only=params_only, slow=slow, device=device)
    if as_json:
        print_json(measured.to_json())
    else:
        print(measured.table())
