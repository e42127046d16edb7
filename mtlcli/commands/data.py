"""`mtl data`."""

from pathlib import Path
from typing import Annotated

import typer

from mtlcli.commands._options import AsJson, Force, Quiet, print_json


def data(
    file: Annotated[Path, typer.Argument(help="NAME, or datasets/NAME.h5.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Ranges and histograms from every sample.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Read every sample again and compare checksums.")
    ] = False,
    browse: Annotated[
        Path | None, typer.Option(help="Draw samples with all labels into this .png.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say what a dataset file holds, check it, or draw samples."""
    from mtlcli.data import inspect

    file = inspect.place_of(file)
    sound = inspect.check(file, quiet=quiet) if check else None
    description = inspect.describe(file, everything=everything, quiet=quiet)
    if not as_json:
        print(description.text())
    if sound and not as_json:
        print(sound)
    if browse:
        from mtlcli.drawing import browse as browsing

        browsing.browse(file, browse, force=force)
        if not as_json:
            print(browse)
    if as_json:
        drawn = str(browse) if browse else None
        print_json(description.to_json() | {"checked": check, "sheet": drawn})
