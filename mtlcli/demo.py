"""`mtl demo`: the whole path on the embedded rooms, from nothing to a picture and a table, in
minutes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mtlcli import checkpoint
from mtlcli.config import RunConfig, datasets_dir
from mtlcli.data.batches import WholePictures
from mtlcli.data.reader import Reader
from mtlcli.device import pick_device
from mtlcli.eval import evaluate, results_table
from mtlcli.predict import predict
from mtlcli.prepare import prepare
from mtlcli.scoring import Predict, score
from mtlcli.train import train
from mtlcli.training.conduct import Conduct
from mtlcli.visualize import grid

RECIPE = RunConfig(
    dataset="rooms",
    backbone="resnet18_half",
    init="random",
    size=(72, 96),
    settings={
        "width": 48,
        "position_channels": 16,
        "steps": 1,
        "levels": 2,
        "heads": 2,
        "points": 2,
        "feedforward": 96,
        "query": "pixel",
        "mixer_coordinates": "relative",
    },
    iterations=1200,
    batch_size=4,
    weighting="uncertainty",
    optimizer="adamw",
    lr=2e-3,
)
LEARNT_FROM = 100  # training images are enough for the best constant


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
    results = evaluate(run / "last.pt", device=device, quiet=quiet)
    constant = score_constant(results.tasks, quiet)
    better = {
        name: (results.main[name] > constant[name]) == task.higher_is_better
        for name, task in results.tasks.items()
    }
    rows = {"DeMT-ITSA": results.main, "best constant": constant}
    return Demo(
        table=results_table(rows, results.tasks),
        run=run,
        picture=draw_example(run, device),
        record={"rows": rows, "beats_constant": better, "run": str(run)},
    )


def score_constant(tasks: Mapping[str, Any], quiet: bool) -> dict[str, float]:
    """Main scores of the constant maps that fit the training labels best."""
    file = datasets_dir() / "rooms.h5"
    training = Reader(file, "train", tuple(tasks))
    info = training.info
    samples = [training[i] for i in range(min(LEARNT_FROM, len(training)))]
    logits = {}
    for name, task in tasks.items():
        targets = [task.target(s[name]) for s in samples if name in s]
        values = task.constant(targets, task.outputs(info.classes.get(name, ())))
        logits[name] = torch.from_numpy(values).float()[None, :, None, None]
    pictures = WholePictures(Reader(file, "val"), tasks, (1.0, 1.0))
    scores = score(everywhere(logits), pictures, tasks, info.options, 0, quiet)
    return {name: scores[name][task.metric] for name, task in tasks.items()}


def everywhere(logits: dict[str, torch.Tensor]) -> Predict:
    """A predictor that answers every image with the same values at every pixel."""
    return lambda image: {n: v.expand(1, -1, *image.shape[-2:]) for n, v in logits.items()}


def draw_example(run: Path, device: str) -> Path:
    """The grid of the first validation picture, written into the run folder."""
    trained = checkpoint.load(run / "last.pt", pick_device(device))
    image = Reader(datasets_dir() / "rooms.h5", "val")[0]["image"]
    path = run / "demo.png"
    Image.fromarray(grid(trained, np.asarray(image), predict(trained, image))).save(path)
    return path
