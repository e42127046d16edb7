"""`mtl train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mtlcli.commands import _completion
from mtlcli.commands._fields import options_of, pick_fields
from mtlcli.commands._options import AsJson, Device, notify, print_json, was_typed
from mtlcli.errors import InputError
from mtlcli.files import typed as typed_path
from mtlcli.runs.config import Conduct, RunConfig
from mtlcli.systems._settings import flag

SCALELESS = (
    "{} has no effect with --optimizer adamw, whose steps do not depend on the scale of a gradient."
)


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
            help="Continue this run: its name or folder. --iterations N extends it.",
            autocompletion=_completion.runs,
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            help="Repeat this run's options; typed ones go before.",
            autocompletion=_completion.runs,
        ),
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option("--config", help="Options from JSON: a run.json, or an object of options."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what memory it needs and what fits.")
    ] = False,
    memory: Annotated[
        float | None,
        typer.Option(
            help="With --dry-run: gigabytes of a card that is not here; says hours on cards, too.",
            metavar="GB",
        ),
    ] = None,
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
    from mtlcli.runs.hub_run import is_name
    from mtlcli.runs.names import resolve
    from mtlcli.runs.options import gather
    from mtlcli.systems import _settings as settings
    from mtlcli.training import dry_run as planning
    from mtlcli.training import loop as train

    given = {n: v for n, v in options.items() if was_typed(context, n)}
    typed, carried = pick_fields(RunConfig, given), pick_fields(Conduct, given)
    if "tasks" in typed:
        typed["tasks"] = tuple(typed["tasks"])
    typed["settings"] = settings.parse(context.args)
    if typed["settings"]:
        known = [word for option in context.command.params for word in option.opts]
        settings.refuse_typos(typed["settings"], known)
    chosen = device if was_typed(context, "device") else None
    conduct = Conduct(device=chosen, **carried)
    if resume and out:
        raise InputError("--resume continues a run in its own folder: leave --out away.")
    if jobs and not (seeds or resume):
        raise InputError(f"--jobs {jobs}: runs side by side are those of --seeds; add it.")
    if memory is not None and not dry_run:
        raise InputError(f"--memory {memory:g} only says what a run needs: add --dry-run.")
    if resume and dry_run:
        raise InputError(
            "--dry-run only says what a run needs, and --resume goes on with one: "
            f"`mtl train --like {typed_path(resume)} --dry-run`."
        )
    others = {"--from": typed.get("from_run"), "--like": like, "--config": config_file}
    for option, value in others.items():
        if resume and value:
            raise InputError(
                f"{option} {value}: --resume goes on with the run's own weights and options; leave "
                f"{option} away."
            )
    if resume and is_name(resume):
        raise InputError(
            f"--resume {resume}: a run on the hub has no optimiser; --from begins a run with its "
            "weights."
        )
    resume = resolve(resume, "--resume") if resume else None
    if resume and jobs and not (seeds or runs.is_series(resume)):
        raise InputError(f"--jobs {jobs}: {resume} is one run; side by side are those of --seeds.")
    if resume and (seeds or runs.is_series(resume)):
        series = runs.resume_seeds(resume, typed, seeds, jobs=jobs, conduct=conduct)
        print_json(series.to_json()) if as_json else print(series.table())
        return
    if resume:
        announce(train.resume(resume, typed, conduct=conduct), as_json)
        return
    config, said = gather(typed, like=like, file=config_file, quiet=conduct.quiet)
    conduct = Conduct(**{**said, **carried, **({"device": chosen} if chosen else {})})
    if config.optimizer == "adamw":
        for name in {"gradient_scale", "gradient_scope"} & typed["settings"].keys():
            notify(SCALELESS.format(flag(name)))
    if dry_run:
        plan = planning.dry_run(config, device=conduct.device or device, memory=memory)
        print_json(plan.to_json()) if as_json else print(plan.text())
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
    print(f"Next:    mtl eval {typed_path(run / LAST)}")
