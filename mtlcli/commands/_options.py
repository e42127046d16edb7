"""What the commands share: options that mean the same everywhere, and printing."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mtlcli.commands import _completion

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
SizeOption = Annotated[
    tuple[int, int] | None, typer.Option(help="Height and width in pixels.", metavar="H W")
]
Prepared = Annotated[
    str, typer.Option(help="Name of a prepared dataset.", autocompletion=_completion.prepared)
]
System = Annotated[
    str, typer.Option(help="Network: see `mtl systems`.", autocompletion=_completion.systems)
]
Backbone = Annotated[
    str, typer.Option(help="Encoder: see `mtl backbones`.", autocompletion=_completion.backbones)
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(help="Repeat for a subset of tasks.", autocompletion=_completion.tasks),
]
Run = Annotated[
    Path,
    typer.Argument(
        help="Name of a run, its folder, a checkpoint, or hf:USER/REPO[@REV].",
        autocompletion=_completion.runs,
    ),
]
Network = Annotated[
    Path,
    typer.Argument(
        help="Name of a run, its folder, a checkpoint, an exported file, or hf:USER/REPO[@REV].",
        autocompletion=_completion.runs,
    ),
]
Reference = Annotated[
    Path | None,
    typer.Option(
        help="Scored run that Δ% is against; default: the published one.",
        autocompletion=_completion.runs,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that mtl did not write, too.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def was_typed(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line, rather than its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def print_json(record: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(record, indent=2))


def notify(message: str) -> None:
    """One line on stderr, from the first of the processes that torchrun starts."""
    if os.environ.get("RANK", "0") == "0":
        complain(message)


def complain(message: str) -> None:
    """One line on stderr, or the lines that a message of several was made of; what else cannot be
    printed, as in a name, is written as its number.
    """
    lines = ("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
             for line in message.split("\n"))  # fmt: skip
    print("mtl: " + "\n".join(lines), file=sys.stderr)
