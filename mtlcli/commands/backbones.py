"""`mtl backbones`."""

from typing import Annotated

import typer

from mtlcli.commands import _completion
from mtlcli.commands._options import AsJson, print_json


def backbones(
    pattern: Annotated[
        str | None,
        typer.Argument(
            help="Part of a name, of ours or timm's: dinov3, 'convnext*atto'.",
            autocompletion=_completion.backbones,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the backbones, ours and timm's.

    With parameters, maps, weights and the licence of the weights. Without a pattern, our own; timm
    has more than a thousand others.
    """
    from mtlcli.backbones._catalogue import list_backbones

    found = list_backbones(pattern)
    if as_json:
        print_json([entry.to_json() for entry in found])
        return
    from mtlcli.runs.table import markdown

    rows = [
        [
            entry.name,
            f"{entry.parameters:,}" if entry.parameters else "-",
            " ".join(map(str, entry.channels)) or "-",
            " ".join(map(str, entry.strides)) or "-",
            ", ".join(entry.weights) or "-",
            entry.licence or "-",
        ]
        for entry in found
    ]
    print(markdown(["backbone", "parameters", "channels", "strides", "--init", "licence"], rows))
    for entry in found:
        if entry.refused:
            print(entry.refused)
    if pattern is None:
        print("\n`mtl backbones PATTERN` lists timm's too, `mtl train --backbone NAME` takes one.")
    elif any(not (entry.parameters or entry.refused) for entry in found):
        print(f"\n-: not counted, {len(found)} names are too many; a longer pattern counts all.")
