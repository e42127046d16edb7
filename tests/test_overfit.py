"""DeMT-ITSA can learn: on four real pictures the losses fall by a factor of 5, boundaries of 4."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mtlcli import lookup
from mtlcli.data.augment import show, whole
from mtlcli.data.reader import Reader
from mtlcli.prepare import prepare

SIZE = (48, 64)
CELLS = (12, 16)  # one label per cell of the network's finest map, so that it can be met exactly
ITERATIONS = 300
SMALL = {"width": 64, "position_channels": 16, "steps": 1, "points": 2, "feedforward": 128,
         "query": "pixel"}  # fmt: skip


def coarse(sample: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The sample at one pixel per cell."""
    view = whole(sample["image"].shape[:2], CELLS)
    small = {name: view.take(label, cv2.INTER_NEAREST) for name, label in sample.items()}
    area = cv2.resize(sample["image"], CELLS[::-1], interpolation=cv2.INTER_AREA)
    return small | {"image": area}


def four_pictures(reader: Reader, tasks: dict) -> dict[str, torch.Tensor]:
    """The first four that have a label for every task, as one batch."""
    samples = (reader[i] for i in range(len(reader)))
    labelled = [s for s in samples if set(tasks) <= set(s)][:4]
    shown = [show(coarse(s), whole(CELLS, SIZE), tasks) for s in labelled]
    assert len(shown) == 4
    return {key: torch.from_numpy(np.stack([s[key] for s in shown])) for key in shown[0]}


def fall(file: Path) -> dict[str, float]:
    """First loss over last loss of every task."""
    reader = Reader(file, "train")
    tasks = {name: lookup.load("tasks", name).TASK for name in reader.info.tasks}
    batch = four_pictures(reader, tasks)
    channels = {n: t.outputs(reader.info.classes.get(n, ())) for n, t in tasks.items()}
    torch.manual_seed(0)
    backbone = lookup.load("backbones", "hrnet18").build()
    network = lookup.load("systems", "demt_itsa").build(channels, backbone, **SMALL)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    history = []
    for i in range(ITERATIONS):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - i / ITERATIONS) ** 0.5
        logits = network(batch["image"])
        options = reader.info.options
        losses = {n: t.loss(logits[n], batch[n], options.get(n, {})) for n, t in tasks.items()}
        optimizer.zero_grad()
        sum(tasks[n].weight * loss for n, loss in losses.items()).backward()
        optimizer.step()
        history.append({n: loss.item() for n, loss in losses.items()})
    return {n: history[0][n] / history[-1][n] for n in tasks}


@pytest.mark.timeout(1200)
def test_every_loss_falls_on_four_real_pictures(real_data: Path, tmp_path: Path) -> None:
    tool = real_data.parent / "tools" / "make_nyud_tree.py"
    command = [sys.executable, tool, tmp_path, "--train", "4", "--val", "1"]
    subprocess.run(command, check=True, capture_output=True)
    file = tmp_path / "nyud.h5"
    prepare("nyud", archive=tmp_path / "NYUDv2", out=file, workers=1, quiet=True)
    falls = fall(file)
    assert all(fell > (4 if name == "edge" else 5) for name, fell in falls.items()), falls
