"""`mtl demo`: the whole path on the embedded rooms, from nothing to a picture and a table, in
minutes.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mtlcli.data.prepare import prepare
from mtlcli.data.reader import Reader
from mtlcli.drawing.pictures import grid
from mtlcli.drawing.predict import predict
from mtlcli.home import datasets_dir
from mtlcli.ops.devices import pick_device
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import LAST
from mtlcli.scoring.evaluate import evaluate, results_table
from mtlcli.training.conduct import Conduct
from mtlcli.training.loop import train

RECIPE = RunConfig(
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


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What the demo made."""

    table: str
    run: Path
    picture: Path
    record: dict[str, Any]  # scores of the network and of the best constant, what beats what


def demo(*, iterations: int | None = None, device: str = "auto", quiet: bool = False) -> Demo:
    """Make rooms, train DeMT-ITSA, score it beside the best constant prediction, draw a grid."""
    config = replace(RECIPE, iterations=iterations or RECIPE.iterations)
    if not (datasets_dir() / "rooms.h5").exists():
        prepare("rooms", quiet=quiet)
    run = train(config, conduct=Conduct(device=device, quiet=quiet))
    scored = evaluate(run / LAST, constant=True, device=device, quiet=quiet)
    constant = scored.results.constant or {}
    better = {
        name: (scored.main[name] > constant[name]) == task.higher_is_better
        for name, task in scored.tasks.items()
    }
    rows = {"DeMT-ITSA": scored.main, "best constant": constant}
    return Demo(
        table=results_table(rows, scored.tasks),
        run=run,
        picture=draw_example(run, device),
        record={"rows": rows, "beats_constant": better, "run": str(run)},
    )


def draw_example(run: Path, device: str) -> Path:
    """The grid of the first validation picture, written into the run folder."""
    trained = checkpoint.load(run / LAST, pick_device(device))
    image = Reader(datasets_dir() / "rooms.h5", "val")[0]["image"]
    path = run / "demo.png"
    Image.fromarray(grid(trained, np.asarray(image), predict(trained, image))).save(path)
    return path
