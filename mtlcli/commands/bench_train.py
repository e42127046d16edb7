"""`mtl bench train`."""

from typing import Annotated

import typer

from mtlcli.commands._options import (
    AsJson,
    Backbone,
    Device,
    Prepared,
    Quiet,
    SizeOption,
    System,
    Tasks,
    print_json,
)


def bench_train(
    context: typer.Context,
    dataset: Prepared = "rooms",
    system: System = "demt_itsa",
    backbone: Backbone = "hrnet18",
    task: Tasks = None,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 8,
    size: SizeOption = None,
    iterations: Annotated[int, typer.Option(min=1, help="Steps with their data.")] = 12,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Of each variant of a step.")] = 3,
    compile: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="With torch.compile; by default on CUDA."),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Time training: the wait for data, augmentation, options.

    The settings of the system are options too, for example `--steps 1 --query pixel`.
    """
    from mtlcli.bench.train import bench
    from mtlcli.runs.config import RunConfig
    from mtlcli.systems import _settings as settings

    config = RunConfig(
        dataset=dataset,
        system=system,
        backbone=backbone,
        init="random",
        tasks=tuple(task or ()),
        size=size,
        batch_size=batch_size,
        settings=settings.parse(context.args),
    )
    measured = bench(
        config,
        iterations=iterations,
        workers=workers,
        repeats=repeats,
        compiled=compile,
        device=device,
        quiet=quiet,
    )
    if as_json:
        print_json(measured.to_json())
    else:
        print(measured.table())
