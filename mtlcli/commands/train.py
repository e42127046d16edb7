"""`mtl train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mtlcli.commands import _completion
from mtlcli.commands._fields import options_of, pick_fields
from mtlcli.commands._options import AsJson, Device, print_json, was_typed
from mtlcli.errors import InputError
from mtlcli.runs.config import Conduct, RunConfig


@options_of(RunConfig, Conduct)
def train(
    context: typer.Context,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="So many runs from --seed on; mean and deviation.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Of --seeds, runs side by side; default: one per GPU, or 1."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Continue this run: its name or folder.", autocompletion=_completion.runs
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what memory it needs and what fits.")
    ] = False,
    device: Device = "auto",
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Train a network; writes weights/RUN/.

    There are run.json (its settings), log.jsonl and last.pt, which --resume goes on from.

    With --seeds, weights/RUN/seed0/..., weights/RUN/seed1/... and a table of their scores on val.

    The settings of the system are options too, for example `--steps 1 --query pixel`:
    `mtl systems demt_itsa` lists them.
    """
    from mtlcli.experiments import _seeds as runs
    from mtlcli.recipes._recipe import options as recipe_options
    from mtlcli.runs.names import resolve
    from mtlcli.systems import _settings as settings
    from mtlcli.training import loop as train

    typed = pick_fields(RunConfig, {n: v for n, v in options.items() if was_typed(context, n)})
    if "tasks" in typed:
        typed["tasks"] = tuple(typed["tasks"])
    typed["settings"] = settings.parse(context.args)
    if typed["settings"]:
        known = [word for option in context.command.params for word in option.opts]
        settings.refuse_typos(typed["settings"], known)
    chosen = device if was_typed(context, "device") else None
    conduct = Conduct(device=chosen, **pick_fields(Conduct, options))
    if resume and out:
        raise InputError("--resume continues a run in its own folder: leave --out away.")
    if jobs and not (seeds or resume):
        raise InputError(f"--jobs {jobs}: runs side by side are those of --seeds; add it.")
    resume = resolve(resume, "--resume") if resume else None
    if resume and (seeds or runs.is_series(resume)):
        series = runs.resume_seeds(resume, typed, seeds, jobs=jobs, conduct=conduct)
        print_json(series.to_json()) if as_json else print(series.table())
        return
    if resume:
        announce(train.resume(resume, typed, conduct=conduct), as_json)
        return
    config = RunConfig(**(recipe_options(typed["recipe"], typed) if typed.get("recipe") else typed))
    if config.optimizer == "adamw" and "gradient_scale" in typed["settings"]:
        scale = typed["settings"]["gradient_scale"]
        typer.echo(
            f"mtl: --gradient-scale {scale} does nothing with --optimizer adamw, which divides "
            "every gradient by its own size.",
            err=True,
        )
    if dry_run:
        print(train.dry_run(config, device=device))
    elif seeds:
        series = runs.train_seeds(config, seeds, out=out, jobs=jobs, conduct=conduct)
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
