"""`mtl boundary`."""

from pathlib import Path
from typing import Annotated

import typer

from mtlcli.commands._options import AsJson, Force, Quiet, complain, print_json


def boundary(
    pred: Annotated[
        Path, typer.Argument(help="Folder of 8-bit .png or .jpg maps, or .npy or .mat.")
    ],
    gt: Annotated[
        Path,
        typer.Argument(help="Folder of .png edge or label maps, or BSDS or PASCAL-Context .mat."),
    ],
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
    plot: Annotated[Path | None, typer.Option(help=".png to draw into.")] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score boundary maps by matching: odsF, oisF and AP."""
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
        force=force,
        quiet=quiet,
    )
    for said in result.warnings():
        complain(said)
    if as_json:
        print_json(result.as_dict())
    else:
        print(result.text())
