"""`mtl demo`."""

from typing import Annotated

import typer

from mtlcli.commands._options import AsJson, Device, Quiet, print_json


def demo(
    iterations: Annotated[int | None, typer.Option(help="Shorter or longer than usual.")] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make rooms, train on it, score, draw: all in five minutes."""
    from mtlcli.demo import demo

    made = demo(iterations=iterations, device=device, quiet=quiet)
    if as_json:
        print_json(made.record)
        return
    print(made.table)
    print(f"\nPicture: {made.picture}\nRun:     {made.run}")
    print(f"Next:    mtl visualize YOUR.jpg --checkpoint {made.run}")
    print(f"         mtl report {made.run}")
