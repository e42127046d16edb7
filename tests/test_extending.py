"""A new task and a new system are one file each: everything else finds them by their names."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mtlcli.systems
import mtlcli.tasks

TASK_FILE = '''
"""What things are made of."""

from dataclasses import replace

from mtlcli.tasks.semseg import TASK as SEMSEG

TASK = replace(SEMSEG, title="Materials")
'''
SYSTEM_FILE = '''
"""One 1x1 convolution per task on the finest map of the backbone."""

from torch import nn
import torch.nn.functional as F


class Plain(nn.Module):
    def __init__(self, channels, backbone):
        super().__init__()
        self.backbone = backbone
        width = backbone.channels[0]
        self.heads = nn.ModuleDict({n: nn.Conv2d(width, c, 1) for n, c in channels.items()})

    def forward(self, image):
        finest = self.backbone(image)[0]
        return {n: F.interpolate(h(finest), image.shape[-2:]) for n, h in self.heads.items()}


def build(channels, backbone, *, scale: float = 1.0):
    """A network.

    Args:
        scale: is not used.
    """
    return Plain(channels, backbone)
'''
DATASET_FILE = """
size: [32, 40]
splits: {train: [a, b], val: [c]}
image: "{id}.png"
tasks:
  materials: {files: "{id}_made_of.png", classes: [wood, stone, glass]}
"""


@pytest.fixture
def extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a dataset, and mtl with one task and one system more."""
    for kind, name, text in (
        ("tasks", "materials", TASK_FILE), ("systems", "plain", SYSTEM_FILE),
    ):  # fmt: skip
        (tmp_path / kind).mkdir()
        (tmp_path / kind / f"{name}.py").write_text(text)
        package = getattr(mtlcli, kind)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / kind)])
    random = np.random.default_rng(0)
    for ident in "abc":
        pixels = random.integers(0, 256, (32, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{ident}.png")
        Image.fromarray(pixels[..., 0] // 100).save(tmp_path / f"{ident}_made_of.png")
    (tmp_path / "things.yaml").write_text(DATASET_FILE)
    monkeypatch.setenv("MTL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_file_makes_a_task_and_one_a_system(extended: Path, mtl) -> None:
    assert mtl("prepare", "things.yaml", "--quiet").code == 0
    trained = mtl(
        "train", "--dataset", "things", "--system", "plain", "--scale", 2, "--init", "random",
        "--backbone", "resnet18_half", "--iterations", 2, "--batch-size", 2, "--workers", 0,
        "--device", "cpu", "--quiet", "--out", "weights/plain",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    scored = mtl("eval", "weights/plain", "--device", "cpu", "--quiet")
    assert scored.code == 0, scored.err
    assert "Materials" in scored.out or "materials" in scored.out
    drawn = mtl("visualize", "c.png", "--checkpoint", "weights/plain", "--device", "cpu", "--quiet")
    assert drawn.code == 0, drawn.err
    assert "plain" in mtl("systems").out
