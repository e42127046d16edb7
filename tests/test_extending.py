"""A new task of a known kind is a line of YAML, one of a new kind two files, a new system one."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mtlcli.maps
import mtlcli.systems
import mtlcli.tasks
from mtlcli import load
from mtlcli.data.reader import Reader
from mtlcli.drawing.prediction import predict
from mtlcli.drawing.tiles import tiles_of
from mtlcli.page.tiles import tiles_html
from mtlcli.runs import checkpoint

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
MAP_FILE = '''
"""Flow: the way of every pixel to the next picture, x and y in pixels, nan without a label."""

import numpy as np

from mtlcli.maps import _decode
from mtlcli.maps._map import Scale
from mtlcli.maps._map import ErrorMap, Map


def read(data, name, options):
    return _decode.numbers(data)


def problem(stored, classes, options):
    return "is infinite" if np.isinf(stored).any() else ""


def labelled(stored):
    return np.isfinite(stored).all(axis=-1)


def target(stored):
    return np.ascontiguousarray(stored.transpose(2, 0, 1))


def mirror(flow):
    flow[0] *= -1
    return flow


def zoom(flow, factor):
    return flow * factor


def constant(targets, channels):
    return np.nanmean([t.reshape(2, -1) for t in targets], axis=(0, 2))


def encode(flow, options=None):
    x, y = (flow + 128).clip(0, 255).astype(np.uint8)
    return np.dstack((x, y, np.zeros_like(x)))


def draw(flow, options):
    return encode(np.nan_to_num(flow))


def key(flow, options):
    return Scale(colours=np.zeros((2, 3), np.uint8), low="-128", high="127")


def error(prediction, target, options):
    off = np.hypot(*(prediction - target))
    picture = np.repeat(np.nan_to_num(off).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return ErrorMap(picture=picture, key=key(target, options), summary=f"{np.nanmean(off):.2f} px")


MAP = Map(
    usual=("flow",), stored=np.float32, planes=2, unlabelled=float("nan"), unit="px",
    pointed="direction", read=read, problem=problem, labelled=labelled, target=target,
    mirror=mirror, zoom=zoom, constant=constant, encode=encode, draw=draw, key=key, error=error,
)
'''
TASK_FILE = '''
"""Optical flow."""

import numpy as np

from mtlcli.maps import flow
from mtlcli.tasks._shared import masked_mean, mean_of
from mtlcli.tasks._task import Task


def loss(logits, target, options):
    return masked_mean((logits - target.nan_to_num()).abs(), target.isfinite())


def decode(logits):
    return logits.float()


def measure(logits, target, options):
    known = target.isfinite().all(dim=0)
    off = (logits - target).double().norm(dim=0)[known]
    return {"sum": np.asarray(off.sum()), "count": np.asarray(known.sum())}


def score(statistics, options):
    return {"EPE": mean_of(statistics)}


TASK = Task(
    title="Flow", map=flow.MAP, holds="pixels to the next picture", channels=2, weight=1.0,
    metric="EPE", unit="px", higher_is_better=False, loss=loss, decode=decode, measure=measure,
    score=score,
)
'''
DATASET_FILE = """
size: [32, 40]
splits: {train: [a, b], val: [c]}
image: "{id}.png"
tasks:
  materials: {kind: classes, files: "{id}_made_of.png", classes: [wood, stone, glass]}
  height: {kind: depth, files: "{id}_height.npy", title: Height over ground, zoom: false}
  heat: {kind: depth, files: "{id}_heat.npy", unit: "°C", scale: 0.1, zoom: false}
"""


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with pictures and labels, whose folders add files to those of mtl."""
    for folder in (mtlcli.maps, mtlcli.tasks, mtlcli.systems):
        own = tmp_path / folder.__name__.rpartition(".")[2]
        own.mkdir()
        monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(own)])
    random = np.random.default_rng(0)
    for ident in "abc":
        pixels = random.integers(0, 256, (32, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{ident}.png")
        Image.fromarray(pixels[..., 0] // 100).save(tmp_path / f"{ident}_made_of.png")
        np.save(tmp_path / f"{ident}_height.npy", pixels[..., 1].astype(np.float32) / 100 + 0.5)
        np.save(tmp_path / f"{ident}_heat.npy", pixels[..., 2].astype(np.float32) + 5000)
        np.save(tmp_path / f"{ident}_flow.npy", random.normal(size=(32, 40, 2)).astype(np.float32))
    (tmp_path / "things.yaml").write_text(DATASET_FILE)
    monkeypatch.setenv("MTL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def do(mtl: Callable, *words: object) -> str:
    answer = mtl(*words, "--quiet")
    assert answer.code == 0, answer.err
    return answer.out


def train(mtl: Callable, *more: object) -> None:
    do(
        mtl, "train", "--dataset", "things", "--init", "random", "--backbone", "resnet18_half",
        "--iterations", 2, "--batch-size", 2, "--workers", 0, "--device", "cpu",
        "--out", "weights/own", *more,
    )  # fmt: skip


def test_tasks_of_known_kinds_need_no_python(workshop: Path, mtl) -> None:
    do(mtl, "prepare", "things.yaml")
    reader = Reader(workshop / "datasets" / "things.h5", "train")
    assert reader[0]["heat"].dtype == np.float32
    assert 500 <= reader[0]["heat"].min() <= reader[0]["heat"].max() < 526
    assert " °C" in do(mtl, "data", "datasets/things.h5")
    train(mtl, "--system", "multi_task")
    table = do(mtl, "eval", "weights/own", "--device", "cpu", "--constant")
    assert all(f"{name} {metric}" in table for name, metric in
               (("materials", "mIoU"), ("height", "RMSE"), ("heat", "RMSE")))  # fmt: skip
    main = json.loads((workshop / "weights" / "own" / "results.json").read_text())["main"]
    assert main.keys() == {"materials", "height", "heat"}
    predicted = load("weights/own").predict("c.png")
    assert predicted["heat"].shape == predicted["height"].shape == (32, 40)
    assert predicted.classes == {"materials": ("wood", "stone", "glass")}
    trained, picture = checkpoint.load(Path("weights/own"), "cpu"), np.asarray(Image.open("c.png"))
    maps = predict(trained, picture)
    assert 'data-unit="°C"' in tiles_html(trained, picture, tiles_of(trained, maps), maps)
    place = ("--checkpoint", "weights/own", "--device", "cpu")
    do(mtl, "visualize", "c.png", *place)
    do(mtl, "visualize", "--dataset", "things", "--split", "val", "--index", 0, *place)
    do(mtl, "visualize", "c.png", "--separate", "--out", "apart", *place)
    heat = np.load("apart/c.npz")["heat"].squeeze()
    assert heat.shape == (32, 40)
    written = np.asarray(Image.open("apart/heat/c.png"))
    np.testing.assert_allclose(written / 100, heat.clip(0, 655.35), atol=0.006)
    do(mtl, "report", "weights/own", "--device", "cpu", "--out", "page.html")
    assert "Height over ground" in Path("page.html").read_text()


def test_heights_do_not_shrink_when_seen_from_nearer_and_depths_do(workshop: Path, mtl) -> None:
    do(mtl, "prepare", "things.yaml")
    info = Reader(workshop / "datasets" / "things.h5", "train").info
    assert info.map("height").zoom is None
    assert mtlcli.maps.map_of("depth").zoom is not None


def test_a_task_of_a_new_kind_is_two_files(workshop: Path, mtl) -> None:
    (workshop / "maps" / "flow.py").write_text(MAP_FILE)
    (workshop / "tasks" / "flow.py").write_text(TASK_FILE)
    mtlcli.maps._usual_kinds.cache_clear()
    with open("things.yaml", "a") as file:
        file.write('  flow: {files: "{id}_flow.npy"}\n')
    do(mtl, "prepare", "things.yaml")
    train(mtl, "--system", "multi_task", "--task", "flow", "--task", "height")
    assert "flow EPE" in do(mtl, "eval", "weights/own", "--device", "cpu")
    do(mtl, "visualize", "--dataset", "things", "--split", "val", "--index", 0,
       "--checkpoint", "weights/own", "--device", "cpu")  # fmt: skip
    mtlcli.maps._usual_kinds.cache_clear()


def test_a_system_is_one_file(workshop: Path, mtl) -> None:
    (workshop / "systems" / "plain.py").write_text(SYSTEM_FILE)
    do(mtl, "prepare", "things.yaml")
    train(mtl, "--system", "plain", "--scale", 2)
    assert "plain" in mtl("systems").out
