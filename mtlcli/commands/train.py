"""`mtl train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mtlcli.commands import _completion
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
    was_typed,
)
from mtlcli.errors import InputError


def train(
    context: typer.Context,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A published run, see `mtl recipes`; other options override.",
            autocompletion=_completion.recipes,
        ),
    ] = None,
    dataset: Prepared = "nyud",
    system: System = "demt_itsa",
    backbone: Backbone = "hrnet18",
    init: Annotated[
        str, typer.Option(help="Backbone weights: imagenet, ade20k (Swin), random or a file.")
    ] = "imagenet",
    task: Tasks = None,
    iterations: Annotated[int, typer.Option(help="Optimiser steps.")] = 40_000,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 8,
    size: SizeOption = None,
    crop: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Train on windows of this height and width.", metavar="H W"),
    ] = None,
    optimizer: Annotated[str, typer.Option(help="sgd (the paper's) or adamw.")] = "sgd",
    lr: Annotated[float, typer.Option(help="Learning rate at the start.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(help="On all parameters.")] = 5e-4,
    seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.")] = 0,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="So many runs from --seed on; mean and deviation.")
    ] = None,
    amp: Annotated[
        bool | None, typer.Option("--amp/--no-amp", help="Half precision; on by default on CUDA.")
    ] = None,
    accumulate: Annotated[int, typer.Option(help="Passes a batch is split into.")] = 1,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Less memory: compute activations twice.")
    ] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same bits every time, also on CUDA.")
    ] = False,
    holdout: Annotated[
        float, typer.Option(help="Share of the training images that choose best.pt.")
    ] = 0.0,
    weighting: Annotated[
        str,
        typer.Option(
            help="Of losses: fixed, uncertainty, dwa, gradnorm, geometric; surgery "
            "(extra [surgery]): pcgrad, cagrad, upgrad."
        ),
    ] = "fixed",
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Run folder.")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Continue this run: its name or folder.", autocompletion=_completion.runs
        ),
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Iterations between checkpoints.")] = 500,
    keep: Annotated[int, typer.Option(help="Newest checkpoints that stay beside last.pt.")] = 0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write RUN/tensorboard (extra [tb]).")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what memory it needs and what fits.")
    ] = False,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Train a network; writes weights/RUN/.

    There are run.json (its settings), log.jsonl and last.pt, which --resume goes on from.

    With --seeds, weights/RUN/seed0/..., weights/RUN/seed1/... and a table of their scores on val.

    The settings of the system are options too, for example `--steps 1 --query pixel`:
    `mtl systems demt_itsa` lists them.
    """
    from mtlcli.experiments import _seeds as runs
    from mtlcli.recipes._index import options as recipe_options
    from mtlcli.runs.config import RunConfig
    from mtlcli.runs.names import resolve
    from mtlcli.systems import _settings as settings
    from mtlcli.training import loop as train
    from mtlcli.training.conduct import Conduct

    options: dict[str, Any] = {
        "recipe": recipe,
        "dataset": dataset,
        "system": system,
        "backbone": backbone,
        "init": init,
        "tasks": tuple(task or ()),
        "iterations": iterations,
        "batch_size": batch_size,
        "size": size,
        "crop": crop,
        "optimizer": optimizer,
        "lr": lr,
        "weight_decay": weight_decay,
        "seed": seed,
        "amp": amp,
        "accumulate": accumulate,
        "checkpointing": checkpointing,
        "compile": compile,
        "deterministic": deterministic,
        "holdout": holdout,
        "weighting": weighting,
    }
    typed = {n: v for n, v in options.items() if was_typed(context, "task" if n == "tasks" else n)}
    typed["settings"] = settings.parse(context.args)
    if typed["settings"]:
        known = [word for option in context.command.params for word in option.opts]
        settings.refuse_typos(typed["settings"], known)
    conduct = Conduct(
        device=device if was_typed(context, "device") else None,
        workers=workers,
        checkpoint_every=checkpoint_every,
        keep=keep,
        quiet=quiet,
        tensorboard=tensorboard,
    )
    if resume and out:
        raise InputError("--resume continues a run in its own folder: leave --out away.")
    resume = resolve(resume, "--resume") if resume else None
    if resume and (seeds or runs.is_series(resume)):
        series = runs.resume_seeds(resume, typed, seeds, conduct=conduct)
        print_json(series.to_json()) if as_json else print(series.table())
        return
    if resume:
        announce(train.resume(resume, typed, conduct=conduct), as_json)
        return
    config = RunConfig(**(recipe_options(recipe, typed) if recipe else typed))
    if dry_run:
        print(train.dry_run(config, device=device))
    elif seeds:
        series = runs.train_seeds(config, seeds, out=out, conduct=conduct)
        print_json(series.to_json()) if as_json else print(series.table())
    else:
        announce(train.train(config, out=out, conduct=conduct), as_json)


def announce(run: Path, as_json: bool) -> None:
    """Say where a run is, and what to do with it."""
    from mtlcli.runs.folder import LAST

    if as_json:
        print_json({"run": str(run), "checkpoint": str(run / LAST)})
        return
    print(f"Trained: {run / LAST}")
    print(f"Next:    mtl eval {run / LAST}")
