"""`mtl prepare`."""

from pathlib import Path
from typing import Annotated

import typer

from mtlcli.commands import _completion
from mtlcli.commands._options import AsJson, Quiet, SizeOption, print_json


def prepare(
    name: Annotated[
        str,
        typer.Argument(
            help="nyud, pascal, rooms, or a YAML file of your own.",
            autocompletion=_completion.datasets,
        ),
    ],
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
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Default: one per core.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Turn a dataset into one file, datasets/NAME.h5."""
    from mtlcli.data.prepare import prepare

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
    if as_json:
        print_json({"file": str(path), "bytes": path.stat().st_size})
        return
    print(f"Prepared: {path}")
    print(f"Next:     mtl data {path}")
