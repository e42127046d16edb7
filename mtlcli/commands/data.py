"""`mtl data`."""

from pathlib import Path
from typing import Annotated

import typer

from mtlcli.commands._options import Quiet


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
    """Say what a dataset file holds, check it, or draw samples."""
    from mtlcli import inspect

    print(inspect.describe(file, everything=everything, quiet=quiet))
    if check:
        print(inspect.check(file, quiet=quiet))
    if browse:
        from mtlcli.visualizing import browse as sheet

        print(sheet.browse(file, browse))
