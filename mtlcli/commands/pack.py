"""`mtl pack`."""

from pathlib import Path
from typing import Annotated

import typer


def pack(
    run: Annotated[Path, typer.Argument(help="Checkpoint or run folder.")],
    out: Annotated[Path, typer.Option(help="New run folder.")],
) -> None:
    """Make a run small enough to give away.

    Half precision, and only what predicting needs.
    """
    from mtlcli.pack import pack

    packed = pack(run, out)
    print(f"Packed: {packed.path}, {packed.after / 1e6:.1f} MB of {packed.before / 1e6:.1f}")
    print(f"Next:   mtl eval {out}")
