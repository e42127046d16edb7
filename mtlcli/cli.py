"""The command line: collects the commands, and turns errors made for the user into one line and an
exit code. Heavy modules are imported by the command that needs them.
"""

import io
import os
import sys
import traceback
from typing import Annotated, NoReturn

import typer

import mtlcli
from mtlcli.commands import (
    bench_attention,
    bench_model,
    boundary,
    data,
    demo,
    doctor,
    eval,
    experiment,
    export,
    import_demt,
    pack,
    prepare,
    recipes,
    report,
    serve,
    systems,
    train,
    visualize,
)
from mtlcli.commands._options import complain
from mtlcli.commands._values import Checked
from mtlcli.errors import MtlError, in_one_line
from mtlcli.home import set_environment

ANY_SETTING = {"allow_extra_args": True, "ignore_unknown_options": True}  # of a system

app = typer.Typer(
    name="mtl",
    help="Multi-task dense prediction with deformable inter-task attention.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(cls=Checked)(demo.demo)
app.command(cls=Checked)(prepare.prepare)
app.command(cls=Checked)(data.data)
app.command(cls=Checked)(doctor.doctor)
app.command(cls=Checked, context_settings=ANY_SETTING)(train.train)
app.command("import-demt", cls=Checked)(import_demt.import_demt)
app.command(cls=Checked)(recipes.recipes)
app.command(cls=Checked)(systems.systems)
app.command("eval", cls=Checked)(eval.evaluate)
app.command(cls=Checked)(experiment.experiment)
app.command(cls=Checked)(report.report)
app.command(cls=Checked)(boundary.boundary)
app.command(cls=visualize.Command)(visualize.visualize)
app.command(cls=Checked)(serve.serve)
app.command(cls=Checked)(export.export)
app.command(cls=Checked)(pack.pack)

benchmarks = typer.Typer(no_args_is_help=True, help="Measure what things cost.")
benchmarks.command("model", cls=Checked, context_settings=ANY_SETTING)(bench_model.bench_model)
benchmarks.command("attention", cls=Checked)(bench_attention.bench_attention)
app.add_typer(benchmarks, name="bench")


def print_version(asked: bool) -> None:
    """What `mtl --version` does, whatever else stands on the line."""
    if asked:
        print(mtlcli.__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and leave.", callback=print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Multi-task dense prediction with deformable inter-task attention."""


def silence_all_but_the_first() -> None:
    """Of the processes that torchrun starts, the first prints the results."""
    if int(os.environ.get("RANK", "0")) > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def spread_sizes(arguments: list[str]) -> list[str]:
    """`--size 212x280` may be written for `--size 212 280`, and so with --crop."""
    spread: list[str] = []
    for previous, argument in zip(["", *arguments], arguments):
        sides = argument.split("x")
        takes_two = previous in ("--size", "--crop")
        is_size = takes_two and len(sides) == 2 and all(s.isdigit() for s in sides)
        spread += sides if is_size else [argument]
    return spread


def main() -> None:
    """Run the command line; every error becomes one line and an exit code.

    MTL_DEBUG=1 shows where it was raised, too.
    """
    set_environment()
    silence_all_but_the_first()
    print_anything()
    try:
        try:
            app(args=spread_sizes(sys.argv[1:]), prog_name="mtl", standalone_mode=True)
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except BrokenPipeError:
        leave_quietly()
    except KeyboardInterrupt:
        complain("interrupted.")
        sys.exit(130)
    except Exception as error:
        if os.environ.get("MTL_DEBUG") == "1":
            traceback.print_exc()
        if isinstance(error, MtlError):
            complain(str(error))
            sys.exit(error.exit_code)
        if isinstance(error, MemoryError):
            complain("There is not enough memory for this: make it smaller (sizes, batches).")
            sys.exit(1)
        complain(f"{in_one_line(error)}. MTL_DEBUG=1 shows the traceback.")
        sys.exit(1)


def print_anything() -> None:
    """What the encoding of stdout or stderr lacks is written as its number: it must not cost what
    was done.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def leave_quietly() -> NoReturn:
    """Nobody reads what is printed, as after `| head -1`: that needs no words."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left to flush
    sys.exit(1)
