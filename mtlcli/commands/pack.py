"""`mtl pack`."""

from pathlib import Path
from typing import Annotated

import typer

from mtlcli.commands._options import AsJson, Run, print_json
from mtlcli.files import typed


def pack(
    run: Run,
    out: Annotated[Path, typer.Option(help="New run folder.")],
    licence: Annotated[
        str, typer.Option("--license", help="Of the weights, as the hub names it: apache-2.0, ...")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Make a run small enough to give away.

    Half precision, and only what predicting needs: model.safetensors, config.json, results.json
    and README.md, a filled model card, ready for `hf upload`.
    """
    from mtlcli.runs.pack import pack

    packed = pack(run, out, licence)
    if as_json:
        print_json(
            {"checkpoint": str(packed.path), "bytes": packed.after, "bytes_before": packed.before}
        )
        return
    print(f"Packed: {packed.path}, {packed.after / 1e6:.1f} MB of {packed.before / 1e6:.1f}")
    print(f"Next:   mtl eval {typed(out)}")
    print(f"        hf upload USER/REPO {typed(out)}   (then it is hf:USER/REPO to mtl)")
