"""`mtl demo`: the whole path on the embedded rooms, from nothing to a picture and a table."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlcli.commands._options import AsJson, Device, Quiet, print_json
from mtlcli.home import datasets_dir
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import LAST

if TYPE_CHECKING:
    from mtlcli.scoring.evaluate import Scored

BUDGET = RunConfig(
    dataset="rooms",
    backbone="resnet18_half",
    init="random",
    size=(60, 80),
    settings={
        "width": 48,
        "position_channels": 16,
        "steps": 1,
        "levels": 2,
        "heads": 2,
        "points": 2,
        "feedforward": 96,
        "dropout": 0.0,
        "query": "pixel",
        "mixer_coordinates": "relative",
        "logits_deviation": 0.07,
    },
    iterations=1100,
    batch_size=4,
    weighting="uncertainty",
    optimizer="adamw",
    lr=2e-3,
)


def demo(
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Shorter or longer than usual.")
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Make rooms, train on it, score, draw: all in five minutes."""
    from mtlcli.data.prepare import prepare
    from mtlcli.runs.config import Conduct
    from mtlcli.scoring.evaluate import evaluate, results_table
    from mtlcli.training.loop import train

    config = replace(BUDGET, iterations=iterations or BUDGET.iterations)
    if not (datasets_dir() / "rooms.h5").exists():
        prepare("rooms", quiet=quiet)
    run = train(config, conduct=Conduct(device=device, quiet=quiet))
    scored = evaluate(run / LAST, constant=True, device=device, quiet=quiet)
    picture = draw_example(run, device)
    rows = {"DeMT-ITSA": scored.main, "best constant": scored.results.constant or {}}
    if as_json:
        print_json({"rows": rows, "beats_constant": beats(scored), "run": str(run)})
        return
    print(results_table(rows, scored.tasks))
    print(f"\nPicture: {picture}\nRun:     {run}")
    print(f"Next:    mtl visualize YOUR.jpg --checkpoint {run}")
    print(f"         mtl report {run}")


def beats(scored: "Scored") -> dict[str, bool]:
    """Task -> whether the network is better than the best constant prediction."""
    constant = scored.results.constant or {}
    return {
        name: (scored.main[name] > constant[name]) == task.higher_is_better
        for name, task in scored.tasks.items()
    }


def draw_example(run: Path, device: str) -> Path:
    """Draw the first validation picture and what the network makes of it into the run folder."""
    import numpy as np
    from PIL import Image

    from mtlcli.data.reader import Reader
    from mtlcli.drawing.pictures import grid
    from mtlcli.drawing.prediction import predict
    from mtlcli.ops.devices import pick_device
    from mtlcli.runs import checkpoint

    trained = checkpoint.load(run / LAST, pick_device(device))
    image = Reader(datasets_dir() / "rooms.h5", "val")[0]["image"]
    path = run / "demo.png"
    Image.fromarray(grid(trained, np.asarray(image), predict(trained, image))).save(path)
    return path
