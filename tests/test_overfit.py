"""Every system can learn: on a few pictures that it sees again and again its losses fall."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mtlcli import lookup
from mtlcli.backbones import _backbone as backbones
from mtlcli.data.augment import View, show
from mtlcli.data.moments import IMAGENET
from mtlcli.data.prepare import prepare
from mtlcli.data.reader import Reader

SIZE = (48, 64)
CELLS = (12, 16)  # one label per cell of the network's finest map, so that it can be met exactly
START = 5e-3  # learning rate, falling linearly
ITSA = {"width": 48, "position_channels": 16, "steps": 1, "points": 2, "feedforward": 96,
        "query": "pixel", "mixer_coordinates": "relative"}  # fmt: skip
SMALL = {
    "single_task": {"hidden": 24},
    "multi_task": {"hidden": 24},
    "mqtransformer": {"width": 32, "queries": 8},
    "demt": {"width": 32, "query": "pixel", "mixer_coordinates": "relative"},
    "demt_itsa": ITSA | {"width": 32, "feedforward": 64},
}


def whole(source: tuple[int, int], size: tuple[int, int]) -> View:
    """The view that shows a whole picture of `source` (H, W) pixels in `size` (H, W) pixels."""
    step = (source[0] / size[0], source[1] / size[1])
    return View(size=size, step=step, origin=(step[0] / 2 - 0.5, step[1] / 2 - 0.5))


def coarse(sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The sample at one pixel per cell."""
    view = whole(sample["image"].shape[:2], CELLS)
    small = {name: view.take(label, cv2.INTER_NEAREST) for name, label in sample.items()}
    area = cv2.resize(sample["image"], CELLS[::-1], interpolation=cv2.INTER_AREA)
    return small | {"image": area}


def first_pictures(reader: Reader, tasks: dict, count: int) -> dict[str, torch.Tensor]:
    """The first that have a label for every task, as one batch."""
    samples = (reader[i] for i in range(len(reader)))
    labelled = [s for s in samples if set(tasks) <= set(s)][:count]
    maps = {name: task.map for name, task in tasks.items()}
    shown = [show(coarse(s), whole(CELLS, SIZE), maps, IMAGENET) for s in labelled]
    assert len(shown) == count
    return {key: torch.from_numpy(np.stack([s[key] for s in shown])) for key in shown[0]}


def fall(
    file: Path, system: str, settings: dict, pictures: int, iterations: int
) -> dict[str, float]:
    """First loss over last loss of every task."""
    reader = Reader(file, "train")
    tasks = {name: lookup.load("tasks", name).TASK for name in reader.info.tasks}
    batch = first_pictures(reader, tasks, pictures)
    channels = {n: t.outputs(reader.info.classes.get(n, ())) for n, t in tasks.items()}
    torch.manual_seed(0)
    backbone = backbones.find("resnet18_half").build()
    network = lookup.load("systems", system).build(channels, backbone, **settings)
    optimizer = torch.optim.Adam(network.parameters(), lr=START)
    options = reader.info.options
    history = []
    for i in range(iterations):
        optimizer.param_groups[0]["lr"] = START * (1 - i / iterations)
        logits = network(batch["image"])
        losses = {n: t.loss(logits[n], batch[n], options.get(n, {})) for n, t in tasks.items()}
        optimizer.zero_grad()
        sum(tasks[n].weight * loss for n, loss in losses.items()).backward()
        optimizer.step()
        history.append({n: loss.item() for n, loss in losses.items()})
    return {n: history[0][n] / history[-1][n] for n in tasks}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("system", SMALL)
def test_every_loss_of_every_system_falls_on_two_rooms(system: str, rooms_file: Path) -> None:
    falls = fall(rooms_file, system, SMALL[system], pictures=2, iterations=180)
    assert all(fell > 2 for fell in falls.values()), falls


@pytest.mark.timeout(1200)
def test_every_loss_falls_five_times_on_four_real_pictures(real_data: Path, tmp_path: Path) -> None:
    tool = real_data.parent / "tools" / "make_nyud_tree.py"
    command = [sys.executable, tool, tmp_path, "--train", "4", "--val", "1"]
    subprocess.run(command, check=True, capture_output=True)
    file = tmp_path / "nyud.h5"
    prepare("nyud", archive=tmp_path / "NYUDv2", out=file, workers=1, quiet=True)
    falls = fall(file, "demt_itsa", ITSA, pictures=4, iterations=450)
    assert all(fell > 5 for fell in falls.values()), falls
