"""What no value of any command line may be: refused in one place, before a command begins."""

import math
import os
from collections.abc import Iterator
from typing import Any

from typer.core import TyperCommand

from mtlcli.errors import InputError

LARGEST = 2**31 - 1  # of whole numbers
LONGEST, LONGEST_PATH = 255, 4000  # bytes of a name, and of all of a path


class Checked(TyperCommand):
    """A command whose typed values are checked (see `problem`) before it is called."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Understand what was typed; an empty word would become the working folder.

        Raises:
            InputError: names the option before it.
        """
        for before, word in zip(["", *args], args):
            if not word.strip() or (word.startswith("--") and word.endswith("=")):
                where = f"in {word}" if word.strip() else f"after {before or ctx.command_path}"
                raise InputError(f"An empty value stands {where}.")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Call it.

        Raises:
            InputError: names the option and the value.
        """
        for flag, value in typed_values(self, ctx):
            if said := problem(value):
                raise InputError(f"{flag} {brief(value)}: {said}.")
        return super().invoke(ctx)


def typed_values(command: Any, ctx: Any) -> Iterator[tuple[str, Any]]:
    """Option or argument and value, one by one, of what stands on the command line."""
    for parameter in command.params:
        source = ctx.get_parameter_source(parameter.name)
        if source is None or source.name != "COMMANDLINE":
            continue
        value = ctx.params.get(parameter.name)
        flag = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.name.upper()
        yield from (
            (flag, each) for each in (value if isinstance(value, list | tuple) else [value])
        )
    yield from (("option", word) for word in ctx.args)


def problem(value: Any) -> str:
    """Why a value cannot be, "" if it can."""
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number is needed"
    if isinstance(value, int) and abs(value) > LARGEST:
        return f"at most {LARGEST} is possible"
    if isinstance(value, str | os.PathLike):
        text = os.fsencode(value)
        if not text.strip(b" \t\r\n,") or b"\0" in text:
            return "it is empty"
        if len(text) > LONGEST_PATH or max(map(len, text.split(b"/"))) > LONGEST:
            return f"it is longer than a name can be ({len(text)} bytes)"
    return ""


def brief(value: Any) -> str:
    """A value in few letters, on one line."""
    text = repr(str(value)) if not str(value).isprintable() or not str(value) else str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
