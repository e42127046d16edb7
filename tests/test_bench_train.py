"""`mtl bench train`: the field's way of augmenting does what ours does, and the record is whole."""

import json
from pathlib import Path

import numpy as np
import pytest

from mtlcli import lookup
from mtlcli.bench import augmentation, steps
from mtlcli.bench.steps import VARIANTS
from mtlcli.bench.stepwise import stepwise
from mtlcli.data.augment import augment

SIZE = (48, 64)
TASKS = {name: lookup.load("tasks", name).TASK for name in augmentation.TASKS}


@pytest.fixture(scope="module")
def sample() -> dict[str, np.ndarray]:
    return lookup.load("datasets", "rooms").render(0, "train", SIZE)


def test_both_ways_give_arrays_of_the_same_form(sample: dict[str, np.ndarray]) -> None:
    for seed in range(20):
        ours, theirs = (
            way(sample, TASKS, SIZE, (1.0, 1.0), np.random.default_rng(seed))
            for way in (augment, stepwise)
        )
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            assert (array.shape, array.dtype) == (theirs[name].shape, theirs[name].dtype), name


def test_both_ways_show_the_same_on_average(sample: dict[str, np.ndarray]) -> None:
    """Of many crops: share of labelled pixels, mean depth, mean x of normals (0: mirrored half)."""
    means = []
    for way in (augment, stepwise):
        crops = [
            way(sample, TASKS, SIZE, (1.0, 1.0), np.random.default_rng(seed)) for seed in range(150)
        ]
        depths = np.concatenate([c["depth"][c["depth"] > 0] for c in crops])
        labelled = np.mean([(c["semseg"] != 255).mean() for c in crops])
        sideways = np.mean([c["normals"][0].mean() for c in crops])
        means.append((labelled, depths.mean() / sample["depth"].mean(), sideways))
    assert means[0] == pytest.approx(means[1], abs=0.08)


def test_the_record_names_what_was_measured(home: Path, mtl, monkeypatch) -> None:
    monkeypatch.setattr(augmentation, "NYUD", SIZE)
    monkeypatch.setattr(augmentation, "SAMPLES", 1)
    monkeypatch.setattr(steps, "VARIANTS", VARIANTS[:2])
    options = ("--system", "multi_task", "--backbone", "resnet18_half", "--task", "depth",
               "--batch-size", 2, "--iterations", 1, "--repeats", 1, "--workers", 0,
               "--device", "cpu", "--quiet")  # fmt: skip
    answer = mtl("bench", "train", *options, "--json")
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    assert 0 <= record["training"]["data_wait"] <= 1
    augmented = record["augmentation"]
    assert augmented["ratio"] == pytest.approx(augmented["stepwise_ms"] / augmented["ours_ms"])
    plain, other = record["steps"]
    assert (plain["options"], plain["ratio"]) == ("plain", 1.0)
    assert other["images_per_s"] == pytest.approx(other["ratio"] * plain["images_per_s"])
    assert "waiting for data" in mtl("bench", "train", *options).out


def test_a_dataset_that_is_not_prepared_is_one_line(home: Path, mtl) -> None:
    answer = mtl("bench", "train", "--dataset", "pascal", "--device", "cpu")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "pascal" in answer.err
