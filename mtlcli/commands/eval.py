"""`mtl eval`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mtlcli.commands._options import AsJson, Device, Network, Quiet, Reference, print_json


def evaluate(
    checkpoint: Network,
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
    fit_scale: Annotated[
        Path | None,
        typer.Option(
            help="Instead of scoring: folder of pictures of your own with their depth, to which "
            "that of the run is scaled from now on."
        ),
    ] = None,
    save_predictions: Annotated[
        Path | None, typer.Option(help="Folder for TASK/ID.png of every prediction.")
    ] = None,
    reference: Reference = None,
    constant: Annotated[
        bool, typer.Option("--constant", help="Also score the best constant prediction.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images.")] = 1,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Score a network on its dataset.

    Prints a table and writes results.json beside the checkpoint; that of the network that comes
    with the package into weights/nyud_small, those of the hub into weights/USER--REPO.
    """
    if fit_scale:
        from mtlcli.drawing.fit_scale import fit_scale as fit

        found = fit(checkpoint, fit_scale, device)
        if as_json:
            print_json(asdict(found))
        else:
            print(f"Depth from now on: {found}")
        return
    from mtlcli.boundary import read_ids
    from mtlcli.runs.names import pin
    from mtlcli.scoring.evaluate import comparison_table, evaluate

    edge = {
        "protocol": edge_protocol,
        "gt_as": edge_gt_as,
        "ids": read_ids(edge_ids) if edge_ids else None,
    }
    checkpoint = pin(checkpoint, quiet=quiet)
    scored = evaluate(
        checkpoint,
        split=split,
        limit=limit,
        boundaries={k: v for k, v in edge.items() if v is not None},
        save_predictions=save_predictions,
        reference=reference,
        constant=constant,
        device=device,
        workers=workers,
        quiet=quiet,
    )
    if as_json:
        print_json(scored.results.to_json())
    else:
        print(comparison_table(checkpoint, scored))
