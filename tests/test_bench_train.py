"""The benchmarks of training: the field's way of augmenting does what ours does; whole records."""

from pathlib import Path

import numpy as np
import pytest

from mtlcli import lookup
from mtlcli.data.augment import augment
from mtlcli.data.moments import IMAGENET
from mtlcli.maps import map_of
from mtlcli.runs.config import RunConfig
from tests.bench import bench_augmentation, bench_train
from tests.bench.bench_augmentation import stepwise

SIZE = (48, 64)
MAPS = {name: map_of(name) for name in bench_augmentation.TASKS}


@pytest.fixture(scope="module")
def sample() -> dict[str, np.ndarray]:
    return lookup.load("datasets", "rooms").render(0, "train", SIZE)


def test_both_ways_give_arrays_of_the_same_form(sample: dict[str, np.ndarray]) -> None:
    for seed in range(20):
        ours, theirs = (
            way(sample, MAPS, SIZE, (1.0, 1.0), np.random.default_rng(seed), IMAGENET, ["semseg"])
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
            way(sample, MAPS, SIZE, (1.0, 1.0), np.random.default_rng(seed), IMAGENET, ["semseg"])
            for seed in range(150)
        ]
        depths = np.concatenate([c["depth"][c["depth"] > 0] for c in crops])
        labelled = np.mean([(c["semseg"] != 255).mean() for c in crops])
        sideways = np.mean([c["normals"][0].mean() for c in crops])
        means.append((labelled, depths.mean() / sample["depth"].mean(), sideways))
    assert means[0] == pytest.approx(means[1], abs=0.08)


def test_the_records_name_what_was_measured(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_augmentation, "NYUD", SIZE)
    monkeypatch.setattr(bench_augmentation, "SAMPLES", 1)
    monkeypatch.setattr(bench_train, "VARIANTS", bench_train.VARIANTS[:2])
    augmented = bench_augmentation.measure(1)
    assert augmented["ratio"] == pytest.approx(augmented["stepwise_ms"] / augmented["ours_ms"])
    config = RunConfig(
        dataset="rooms", system="multi_task", backbone="resnet18_half", init="random",
        tasks=("depth",), batch_size=2,
    )  # fmt: skip
    record = bench_train.bench(
        config, iterations=1, workers=0, repeats=1, compiled=False, device="cpu"
    )
    assert 0 <= record["training"]["data_wait"] <= 1
    plain, other = record["steps"]
    assert (plain["options"], plain["ratio"]) == ("plain", 1.0)
    assert other["images_per_s"] == pytest.approx(other["ratio"] * plain["images_per_s"])
    assert "waiting for data" in bench_train.table(record)
