"""The command line: options in, one call, print. Heavy modules are imported by the command that
needs them.
"""

import inspect
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mtlcli.errors import InputError, MtlError

app = typer.Typer(
    name="mtl",
    help="Multi-task dense prediction with deformable inter-task attention.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

benchmarks = typer.Typer(no_args_is_help=True, help="Measure what things cost.")
app.add_typer(benchmarks, name="bench")

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
SizeOption = Annotated[
    tuple[int, int] | None, typer.Option(help="Height and width in pixels.", metavar="H W")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


ANY_SETTING = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.")
    ] = False,
) -> None:
    """Multi-task dense prediction with deformable inter-task attention."""
    if version:
        import mtlcli

        print(mtlcli.__version__)
        raise typer.Exit


@app.command()
def demo(
    iterations: Annotated[int | None, typer.Option(help="Shorter or longer than usual.")] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make rooms, train DeMT-ITSA on it, score it, draw a grid: the whole path in minutes."""
    from mtlcli.demo import demo

    made = demo(iterations=iterations, device=device, quiet=quiet)
    if as_json:
        print_json(made.record)
        return
    print(made.table)
    print(f"\nPicture: {made.picture}\nRun:     {made.run}")
    print(f"Next:    mtl visualize YOUR.jpg --checkpoint {made.run}")


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="nyud, pascal, rooms, or a YAML file of your own.")],
    source: Annotated[
        str | None,
        typer.Option(help="Download from here only: atrc, mti, official; bundle, official."),
    ] = None,
    archive: Annotated[
        list[Path] | None,
        typer.Option(help="What you have: tar, tar.gz, zip, folder or .mat; repeat for several."),
    ] = None,
    geometry: Annotated[str | None, typer.Option(help="nyud: 425x560 or 480x640.")] = None,
    limit: Annotated[int | None, typer.Option(help="First so many samples of each split.")] = None,
    size: SizeOption = None,
    train: Annotated[int | None, typer.Option(help="rooms: training samples.")] = None,
    val: Annotated[int | None, typer.Option(help="rooms: validation samples.")] = None,
    seed: Annotated[int | None, typer.Option(help="rooms: another seed, other rooms.")] = None,
    out: Annotated[Path | None, typer.Option(help="Instead of datasets/NAME.h5.")] = None,
    download_dir: Annotated[Path | None, typer.Option(help="Where downloads go and stay.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the downloads.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file made otherwise.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Default: one per core.")] = None,
    quiet: Quiet = False,
) -> None:
    """Download or read a dataset and write it as one file, datasets/NAME.h5."""
    from mtlcli.prepare import prepare

    path = prepare(
        name,
        source=source,
        archive=archive,
        geometry=geometry,
        limit=limit,
        size=size,
        train=train,
        val=val,
        seed=seed,
        out=out,
        download_dir=download_dir,
        keep=keep,
        force=force,
        workers=workers,
        quiet=quiet,
    )
    print(f"Prepared: {path}")
    print(f"Next:     mtl data {path}")


@app.command()
def data(
    file: Annotated[Path, typer.Argument(help="datasets/NAME.h5.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Ranges and histograms from every sample.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Read every sample again and compare checksums.")
    ] = False,
    browse: Annotated[
        Path | None, typer.Option(help="Draw samples with all labels into this .png.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Say what a dataset file holds: counts, coverage, ranges, class histogram, origin."""
    from mtlcli import inspect

    print(inspect.describe(file, everything=everything, quiet=quiet))
    if check:
        print(inspect.check(file, quiet=quiet))
    if browse:
        print(inspect.browse(file, browse))


@app.command(context_settings=ANY_SETTING)
def train(
    context: typer.Context,
    recipe: Annotated[
        str | None, typer.Option(help="A published run, see `mtl recipes`; other options override.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="Name of a prepared dataset.")] = "nyud",
    system: Annotated[str, typer.Option(help="Network: see mtlcli/systems.")] = "demt_itsa",
    backbone: Annotated[str, typer.Option(help="Encoder: see mtlcli/backbones.")] = "hrnet18",
    init: Annotated[
        str, typer.Option(help="Backbone weights: imagenet, ade20k (Swin), random or a file.")
    ] = "imagenet",
    task: Annotated[list[str] | None, typer.Option(help="Repeat for a subset of tasks.")] = None,
    iterations: Annotated[int, typer.Option(help="Optimiser steps.")] = 40_000,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 8,
    size: SizeOption = None,
    optimizer: Annotated[str, typer.Option(help="sgd (the paper's) or adamw.")] = "sgd",
    lr: Annotated[float, typer.Option(help="Learning rate at the start.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(help="On all parameters.")] = 5e-4,
    seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.")] = 0,
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
        str, typer.Option(help="Of losses: fixed, uncertainty, dwa, gradnorm or geometric.")
    ] = "fixed",
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Run folder.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder.")] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Iterations between checkpoints.")] = 500,
    keep: Annotated[int, typer.Option(help="Newest checkpoints that stay beside last.pt.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what memory it needs and what fits.")
    ] = False,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Train a network; writes weights/RUN/{run.json, log.jsonl, last.pt}.

    The settings of the system are options too, for example `--steps 1 --query pixel`:
    `mtl systems demt_itsa` lists them.
    """
    from mtlcli import settings, train
    from mtlcli.config import RunConfig
    from mtlcli.recipes._index import options as recipe_options
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
    conduct = Conduct(
        device=device if was_typed(context, "device") else None,
        workers=workers,
        checkpoint_every=checkpoint_every,
        keep=keep,
        quiet=quiet,
    )
    if resume and out:
        raise InputError("--resume continues a run in its own folder: leave --out away.")
    if resume:
        folder = train.resume(resume, typed, conduct=conduct)
    else:
        config = RunConfig(**(recipe_options(recipe, typed) if recipe else typed))
        if dry_run:
            print(train.dry_run(config, device=device))
            return
        folder = train.train(config, out=out, conduct=conduct)
    print(f"Trained: {folder}/last.pt")
    print(f"Next:    mtl eval {folder}/last.pt")


@app.command("import-demt")
def import_demt(
    file: Annotated[Path, typer.Argument(help="Checkpoint written by DeMT's released code.")],
    dataset: Annotated[
        str | None, typer.Option(help="It was trained on; default: by its classes.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a checkpoint of DeMT's own code into a run for eval and visualize."""
    from mtlcli.import_demt import import_demt

    imported = import_demt(file, dataset=dataset, out=out)
    if as_json:
        print_json(imported.to_json())
        return
    print(imported.text())
    print(f"Next:    mtl eval {imported.folder}")


@app.command()
def recipes(as_json: AsJson = False) -> None:
    """List the runs with published results: `mtl train --recipe NAME` does one."""
    from mtlcli.recipes._index import recipes

    known = recipes().values()
    if as_json:
        print_json([recipe.to_json() for recipe in known])
        return
    from mtlcli.comparison import recipes_table

    print(recipes_table(known))


@app.command()
def systems(
    name: Annotated[str | None, typer.Argument(help="Show the settings of this one.")] = None,
) -> None:
    """List the systems, or the settings of one."""
    from mtlcli import lookup, settings

    for system in [name] if name else lookup.names("systems"):
        module = lookup.load("systems", system)
        print(f"{system}: {(module.__doc__ or '').strip().splitlines()[0]}")
    if name:
        print(f"\n{inspect.getdoc(module.build)}\n\nDefaults:")
        for setting, default in settings.defaults(name).items():
            print(f"  {settings.flag(setting)} {default}")


@app.command("eval")
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="weights/RUN/last.pt, or the run folder.")],
    split: Annotated[str, typer.Option(help="Split of the dataset.")] = "val",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many images.")] = None,
    edge_protocol: Annotated[
        str | None, typer.Option(help="Boundaries: seism (published numbers), mti or bsds.")
    ] = None,
    edge_gt_as: Annotated[
        str | None,
        typer.Option(help="Boundary labels: boundary (as they are) or partition (as published)."),
    ] = None,
    edge_ids: Annotated[
        Path | None, typer.Option(help="File naming the images whose boundaries count.")
    ] = None,
    save_predictions: Annotated[
        Path | None, typer.Option(help="Folder for TASK/ID.png of every prediction.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Scored run to compare with; default: the published one.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images.")] = 1,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Score a network on its dataset; prints a table, writes results.json beside the checkpoint."""
    from mtlcli.boundary import read_ids
    from mtlcli.eval import comparison_table, evaluate

    edge = {
        "protocol": edge_protocol,
        "gt_as": edge_gt_as,
        "ids": read_ids(edge_ids) if edge_ids else None,
    }
    results = evaluate(
        checkpoint,
        split=split,
        limit=limit,
        overrides={"edge": {k: v for k, v in edge.items() if v is not None}},
        save_predictions=save_predictions,
        reference=reference,
        device=device,
        workers=workers,
        quiet=quiet,
    )
    if as_json:
        print_json(results.record)
    else:
        print(comparison_table(checkpoint, results))


@app.command()
def boundary(
    pred: Annotated[Path, typer.Argument(help="Folder of 8-bit .png maps, or .npy floats.")],
    gt: Annotated[Path, typer.Argument(help="Folder of .png edge or label maps, or .mat.")],
    protocol: Annotated[str, typer.Option(help="seism, mti or bsds.")] = "seism",
    gt_as: Annotated[
        str, typer.Option(help="boundary: as it is; partition: contours of a label map.")
    ] = "boundary",
    max_dist: Annotated[
        float | None, typer.Option(help="Tolerance, as a share of the image diagonal.")
    ] = None,
    thresholds: Annotated[int | None, typer.Option(help="How many (bsds only).")] = None,
    ids: Annotated[Path | None, typer.Option(help="File that names the images to score.")] = None,
    workers: Annotated[int | None, typer.Option(help="Default: one per core.")] = None,
    counts: Annotated[Path | None, typer.Option(help=".csv of all counts to write.")] = None,
    plot: Annotated[Path | None, typer.Option(help=".png, .pdf or .svg to draw into.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score boundary maps by matching: odsF, oisF and AP, without a network or MATLAB."""
    from mtlcli.boundary import run_boundary

    result = run_boundary(
        pred,
        gt,
        protocol=protocol,
        gt_as=gt_as,
        max_dist=max_dist,
        thresholds=thresholds,
        ids=ids,
        workers=workers,
        counts=counts,
        plot=plot,
    )
    if as_json:
        print_json(result.as_dict())
    else:
        print(result.text())


@app.command()
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


@benchmarks.command("model", context_settings=ANY_SETTING)
def bench_model(
    context: typer.Context,
    system: Annotated[str, typer.Option(help="Network: see mtlcli/systems.")] = "demt_itsa",
    backbone: Annotated[str, typer.Option(help="Encoder: see mtlcli/backbones.")] = "hrnet18",
    dataset: Annotated[str, typer.Option(help="Whose tasks and classes; no file needed.")] = "nyud",
    task: Annotated[list[str] | None, typer.Option(help="Repeat for a subset of tasks.")] = None,
    size: SizeOption = None,
    params_only: Annotated[bool, typer.Option("--params-only", help="Count, do not run.")] = False,
    slow: Annotated[
        bool, typer.Option("--slow", help="Also run what takes a CPU minutes.")
    ] = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Count a network's parameters and operations and measure its memory and time, part by part.

    The settings of the system are options too, for example `--steps 1 --query pixel`.
    """
    from mtlcli import settings
    from mtlcli.bench.model import bench
    from mtlcli.config import RunConfig

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


@benchmarks.command("attention")
def bench_attention(
    dataset: Annotated[str, typer.Option(help="Whose size and number of tasks.")] = "nyud",
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
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Time deformable attention against global attention and grid_sample, in one run."""
    from mtlcli.bench.attention import bench

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


def was_typed(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line, rather than its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def print_json(record: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(record, indent=2))


def complain(message: str) -> None:
    """One line on stderr."""
    print(f"mtl: {message}", file=sys.stderr)


def silence_all_but_the_first() -> None:
    """Of the processes that torchrun starts, the first prints the results."""
    if int(os.environ.get("RANK", "0")) > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def spread_sizes(arguments: list[str]) -> list[str]:
    """`--size 212x280` may be written for `--size 212 280`."""
    spread: list[str] = []
    for previous, argument in zip(["", *arguments], arguments):
        sides = argument.split("x")
        is_size = previous == "--size" and len(sides) == 2 and all(s.isdigit() for s in sides)
        spread += sides if is_size else [argument]
    return spread


def main() -> None:
    """Run the command line; an error made for the user becomes one line and its exit code."""
    silence_all_but_the_first()
    try:
        app(args=spread_sizes(sys.argv[1:]), prog_name="mtl", standalone_mode=True)
    except MtlError as error:
        complain(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        complain("interrupted.")
        sys.exit(130)
