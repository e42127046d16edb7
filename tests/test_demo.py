"""`mtl demo` goes the whole path; `mtl eval --constant` sets the floor that a network must pass."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlcli import lookup
from mtlcli.commands.demo import BUDGET
from mtlcli.data.reader import Reader
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
