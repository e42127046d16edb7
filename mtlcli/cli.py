"""The command line: collects the commands, and turns errors made for the user into one line and an
exit code. Heavy modules are imported by the command that needs them.
"""

import io
import os
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer

import mtlcli
from mtlcli.commands import (
    backbones,
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
from mtlcli.lookup import suggest

# Typer may bring its own click, so the class is reached from the one that it exports.
UnusableLine: type = typer.BadParameter.__mro__[2]  # ClickException
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
app.command(cls=Checked)(backbones.backbones)
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
            code = app(args=spread_sizes(sys.argv[1:]), prog_name="mtl", standalone_mode=False)
        finally:
            if sys.stdout:
                sys.stdout.flush()
        sys.exit(code or 0)
    except BrokenPipeError:
        leave_quietly()
    except (KeyboardInterrupt, typer.Abort):
        complain("interrupted.")
        sys.exit(130)
    except Exception as error:
        if isinstance(error, UnusableLine):
            refuse_line(error, sys.argv[1:])
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


def refuse_line(error: Any, words: list[str]) -> NoReturn:
    """Say in one line what of the command line cannot be used, and where it is explained."""
    context, said = getattr(error, "ctx", None), " ".join(error.format_message().split())
    if context and said == " ".join(context.get_help().split()):  # a bare `mtl` asks for it
        print(context.get_help(), file=sys.stderr)
        sys.exit(error.exit_code)
    value = value_typed(getattr(error, "param", None), words)
    if context and "No such option" in said:
        known = [name for option in context.command.params for name in option.opts]
        wrong = error.option_name
        said = f"There is no option {wrong}.{suggest(wrong, known, mark='')}"
    elif value and value not in said:
        said = f"{said.removesuffix('.')}, not '{value}'"
    end = "" if said.endswith((".", "?")) else "."
    complain(f"{said}{end} `{command_of(words)} --help` says what it takes.")
    sys.exit(error.exit_code)


def value_typed(option: Any, words: list[str]) -> str:
    """What stands behind an option on the line, "" if nothing does."""
    names = getattr(option, "opts", [])
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else " ".join(words[place + 1 : place + 1 + option.nargs])
    return ""


def command_of(words: list[str]) -> str:
    """The command that a line begins with, as it is typed."""
    group, path = typer.main.get_command(app), "mtl"
    for word in words:
        if word not in (known := getattr(group, "commands", {})):
            break
        group, path = known[word], f"{path} {word}"
    return path


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
