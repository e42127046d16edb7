"""`mtl demo` goes the whole path; `mtl eval --constant` sets the floor that a network must pass."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtlcli import lookup
from mtlcli.commands import demo
from mtlcli.commands.demo import BUDGET
from mtlcli.data.reader import Reader
from mtlcli.errors import Interrupted
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


def test_the_demo_says_up_front_how_long_it_takes(home: Path, mtl, monkeypatch) -> None:
    monkeypatch.setattr(demo, "train_on", lambda *_: (_ for _ in ()).throw(Interrupted("stop")))
    said = mtl("demo").err.splitlines()[0]
    assert f"{BUDGET.iterations} iterations" in said
    assert f"about {demo.MINUTES} min" in said
    longer = mtl("demo", "--iterations", 11 * BUDGET.iterations).err.splitlines()[0]
    assert "about 45 min" in longer


def test_a_demo_that_was_stopped_goes_on_and_ends_as_if_it_never_was(
    home: Path, mtl, monkeypatch
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
    assert demo.find_begun(replace(BUDGET, iterations=3)) is None
    (run / demo.PICTURE).unlink()  # as if it was stopped while it was scored
    assert demo.find_begun(replace(BUDGET, iterations=3)) == run
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
    size = "x".join(map(str, BUDGET.size or ()))
    assert f"{BUDGET.iterations} iterations of {BUDGET.batch_size} pictures at {size}" in said


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
