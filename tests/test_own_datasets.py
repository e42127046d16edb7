"""Networks are scored on what they have learnt, whatever a dataset of one's own calls its tasks and
however little of it is labelled.
"""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from mtlcli import tasks as known_tasks
from mtlcli.data.batches import WholePictures
from mtlcli.data.hdf5 import Info, read_info, write_info
from mtlcli.data.meaning import require_same_labels
from mtlcli.data.moments import IMAGENET
from mtlcli.data.prepare import prepare
from mtlcli.data.reader import Reader
from mtlcli.errors import InputError, RunError
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.scoring.evaluate import evaluate
from mtlcli.scoring.measure import measure

YAML = """
size: [32, 32]
splits: {train: [a0, a1], val: [a2, a3]}
image: images/{id}.png
tasks:
  semseg: {files: "m/{id}.png", classes: [grass, path, tree]}
  depth: {files: "d/{id}.png", metres: 0.01}
  lines: {kind: boundaries, files: "e/{id}.png"}
"""
QUIET: dict[str, Any] = {"device": "cpu", "workers": 0, "quiet": True}


@pytest.fixture
def mine(folder: Path) -> Path:
    """A folder of four pictures, of which those of training have no measured depth."""
    noise = np.random.default_rng(0)
    for name in ("images", "m", "d", "e"):
        (folder / name).mkdir()
    for i in range(4):
        pixels = noise.integers(0, 256, (48, 64, 3), np.uint8)
        line = np.zeros((48, 64), np.uint8)
        line[10 + i] = 255
        depth = noise.integers(1, 255, (48, 64), np.uint8) * (i > 1)
        for name, array in (
            ("images", pixels),
            ("m", pixels[..., 0] % 3),
            ("d", depth),
            ("e", line),
        ):
            Image.fromarray(array.astype(np.uint8)).save(folder / f"{name}/a{i}.png")
    remake(folder, YAML)
    return folder


def remake(folder: Path, text: str) -> None:
    (folder / "mine.yaml").write_text(text)
    prepare(str(folder / "mine.yaml"), force=True, workers=1, quiet=True)


def save(folder: Path, *names: str) -> Path:
    """A checkpoint with random weights for tasks of the dataset."""
    info = read_info(folder / "datasets/mine.h5")
    config = RunConfig(
        dataset="mine", tasks=names, system="multi_task", backbone="resnet18_half", size=(32, 32)
    )
    torch.manual_seed(0)
    network = checkpoint.build_network(config, info).state_dict()
    content = {"config": config.to_json(), "dataset": info.to_json(), "iteration": 0}
    checkpoint.save(folder / "last.pt", network=network, **content)
    return folder / "last.pt"


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("path, grass, tree", "class 0 is 'path', then 'grass'"),
        ("grass, path, tree, sky", "4 .* 3"),
    ],
)
def test_other_classes_are_not_scored(mine: Path, classes: str, said: str) -> None:
    run = save(mine, "semseg")
    remake(mine, YAML.replace("grass, path, tree", classes))
    with pytest.raises(InputError, match=rf"mine\.h5: the labels of 'semseg' .*{said}"):
        evaluate(run, **QUIET)


def test_labels_are_the_same_in_kind_unit_and_classes() -> None:
    usual = Info(tasks=("heat", "semseg"), kinds={"heat": "depth"}, classes={"semseg": ("a", "b")})
    same = replace(usual, options={"heat": {"unit": "m", "zoom": False}}, tasks=("heat",))
    require_same_labels(Path("x.h5"), same, usual, ("heat", "semseg"))
    for other, said in (
        (replace(usual, options={"heat": {"unit": "K"}}), "depth in K, then depth in m"),
        (replace(usual, kinds={"heat": "foreground"}), "foreground, then depth in m"),
    ):
        with pytest.raises(InputError, match=f"'heat' .* {said}"):
            require_same_labels(Path("x.h5"), other, usual, ("semseg", "heat"))


def test_a_run_does_not_go_on_with_other_classes(base: Path, home: Path, mtl: Callable) -> None:
    path = home / "datasets" / "rooms.h5"
    shutil.copy(path, path.with_suffix(".copy"))  # the file is shared by all tests
    path.with_suffix(".copy").replace(path)
    info = read_info(path)
    names = info.classes["semseg"]
    with h5py.File(path, "r+") as file:
        other = {**info.classes, "semseg": (*names[1:], names[0])}
        write_info(file, replace(info, classes=other), complete=True)
    answer = mtl("train", "--resume", base, "--iterations", 6, "--workers", 0)
    assert answer.code == 2
    assert "the labels of 'semseg' are not those" in answer.err


def test_constants_are_learnt_of_what_is_labelled_and_left_out_where_nothing_is(mine: Path) -> None:
    found = evaluate(save(mine, "depth", "semseg"), constant=True, **QUIET).results
    assert math.isnan(found.constant["depth"])
    assert math.isfinite(found.constant["semseg"])
    assert math.isfinite(found.main["depth"])


def test_constants_are_learnt_of_the_pictures_that_have_the_label(mine: Path) -> None:
    depth = np.full((48, 64), 200, np.uint8)
    Image.fromarray(depth).save(mine / "d/a1.png")
    remake(mine, YAML)
    val = Reader(mine / "datasets/mine.h5", "val")
    off = np.concatenate([(val[i]["depth"].astype(float) - 2.0).ravel() for i in range(2)])
    found = evaluate(save(mine, "depth"), constant=True, **QUIET).results
    assert found.constant["depth"] == pytest.approx(np.sqrt(np.mean(off**2)), rel=1e-5)


def test_options_of_boundaries_reach_a_task_of_any_name(mine: Path, mtl: Callable) -> None:
    save(mine, "lines", "semseg")
    (mine / "ids.txt").write_text("a3\n")
    options = ("--edge-protocol", "mti", "--edge-ids", "ids.txt")
    assert mtl("eval", "last.pt", "--device", "cpu", "--workers", 0, *options).code == 0
    found = evaluate("last.pt", boundaries={"protocol": "bsds"}, **QUIET).results
    assert found.options["lines"]["protocol"] == "bsds"
    assert "protocol" not in found.options["semseg"]
    with pytest.raises(InputError, match="no task 'edge'; it has lines, semseg"):
        evaluate("last.pt", overrides={"edge": {"protocol": "mti"}}, **QUIET)
    with pytest.raises(InputError, match="protocol sism"):
        evaluate("last.pt", overrides={"lines": {"protocol": "sism"}}, **QUIET)


def test_options_of_boundaries_are_of_no_use_without_any(mine: Path, mtl: Callable) -> None:
    save(mine, "semseg")
    answer = mtl("eval", "last.pt", "--edge-gt-as", "partition", "--device", "cpu", "--workers", 0)
    assert answer.code == 2
    assert "--edge-gt-as: the network predicts no boundaries" in answer.err


def test_what_is_not_finite_is_not_scored(rooms_file: Path) -> None:
    reader = Reader(rooms_file, "val")
    tasks = known_tasks.named(("semseg", "depth"))
    pictures = WholePictures(reader, tasks, (1.0, 1.0), moments=IMAGENET)
    seen = []

    def predict(image: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(image)
        logits = {"semseg": torch.zeros(1, 15, 12, 16), "depth": torch.ones(1, 1, 12, 16)}
        if len(seen) == 2:
            logits["depth"][0, 0, 3, 4] = math.nan
        return logits

    with pytest.raises(RunError, match=rf"depth of picture '{reader.ids[1]}'"):
        measure(predict, pictures, tasks, {}, 0, True)


def shown_to_the_network(run: Path, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The pictures that a network gets when it is scored."""
    shown: list[np.ndarray] = []
    load = checkpoint.load

    def watched(*told: Any) -> checkpoint.Trained:
        trained = load(*told)
        trained.network.register_forward_pre_hook(lambda _, images: shown.append(images[0].numpy()))
        return trained

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "load", watched)
        evaluate(run, **QUIET)
    return shown


@pytest.mark.parametrize("shape", [(96, 128), (36, 48)])
def test_pictures_stored_in_another_size_are_shown_as_in_training(
    home: Path, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    info = read_info(home / "datasets/rooms.h5")
    config = RunConfig(
        dataset="rooms", tasks=("semseg",), system="multi_task", backbone="resnet18_half",
        size=(32, 48),
    )  # fmt: skip
    network = checkpoint.build_network(config, info).state_dict()
    content = {"config": config.to_json(), "dataset": info.to_json(), "iteration": 0}
    checkpoint.save(home / "last.pt", network=network, **content)
    trained = checkpoint.load(home / "last.pt", torch.device("cpu"))
    wider = replace(info, shape=(info.size[0] + 9, info.size[1] + 12))  # as NYUD-v2 uncut
    assert trained.resolution(wider) == trained.resolution(info) == (32 / 48, 48 / 64)
    before = shown_to_the_network(home / "last.pt", monkeypatch)
    (home / "datasets/rooms.h5").unlink()
    prepare("rooms", size=shape, train=8, val=3, workers=1, quiet=True)
    after = shown_to_the_network(home / "last.pt", monkeypatch)
    assert [x.shape for x in after] == [x.shape for x in before] == [(1, 3, 32, 48)] * 3
    for pair in zip(before, after):
        assert np.corrcoef(*(x.ravel() for x in pair))[0, 1] > 0.9
