"""What the codes of a stored map are worth, and which constant fits labels best."""

import math
from pathlib import Path

import numpy as np
import pytest

from mtlcli.data.reader import Reader
from mtlcli.maps import boundaries, depth, directions, map_of
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.scoring.evaluate import evaluate


def test_codes_of_boundaries_are_255ths() -> None:
    codes = np.array([[0, 51, 204, 255]], np.uint8)
    np.testing.assert_allclose(boundaries.target(codes)[0], [[0, 0.2, 0.8, 1]], rtol=1e-6)


def test_codes_of_directions_are_those_of_atrcs_files() -> None:
    codes = np.random.default_rng(0).integers(200, 256, (5, 6, 3), np.uint8)
    expected = (2 * codes.astype(float) / 255 - 1).transpose(2, 0, 1)
    np.testing.assert_allclose(directions.target(codes), expected, atol=1e-6)
    np.testing.assert_array_equal(directions.encode(directions.target(codes)), codes)


def test_codes_of_directions_are_of_unit_vectors_up_to_what_jpeg_does() -> None:
    noise = np.random.default_rng(0)
    vectors = noise.normal(size=(3, 40, 50))
    codes = directions.encode(vectors / np.linalg.norm(vectors, axis=0))
    moved = codes.astype(int) + noise.integers(-8, 9, codes.shape)
    assert directions.problem(moved.clip(0, 255).astype(np.uint8), 0, {}) == ""
    half = codes.copy()
    half[:17] = 255  # of length 1.73, on 42% of the rows
    assert "42%" in directions.problem(half, 0, {})
    half[17:] = 0  # without a label
    assert "100%" in directions.problem(half, 0, {})
    half[3:] = 0
    assert directions.problem(half, 0, {}) == "", "too few to judge by"
    assert directions.problem(np.zeros_like(codes), 0, {}) == ""


@pytest.mark.parametrize(("options", "share"), [({}, 0.011), ({"max_dist": 0.02}, 0.02),
                                                ({"protocol": "bsds"}, 0.0075)])  # fmt: skip
def test_boundaries_are_drawn_as_found_within_the_tolerance_that_they_are_scored_with(
    options: dict, share: float
) -> None:
    truth, found = (np.zeros((1, 60, 80), np.float32) for _ in range(2))  # diagonal of 100 pixels
    truth[0, :, 40], found[0, :, 40 + math.ceil(100 * share)] = 1, 1
    assert boundaries.tolerance(options) == share
    summary = boundaries.error(found, truth, {"protocol": "mti"} | options).summary
    assert summary.startswith("F 0.00" if share in (0.011, 0.0075) else "F 1.00")


@pytest.mark.parametrize("protocol", ["mti", "bsds"])
def test_what_is_drawn_as_claimed_is_what_the_protocol_counts_at_a_tie(protocol: str) -> None:
    codes, truth = np.zeros((40, 40), np.uint8), np.zeros((40, 40), bool)
    truth[:, 20] = True
    codes[:, 20], codes[:, 5] = 51, 50  # 51 is one fifth, of which mti has a threshold
    exact = 51 / 255 if protocol == "mti" else 0.2
    threshold, f, claimed = boundaries.find_best(codes, truth, {"protocol": protocol})
    assert (threshold, f) == (pytest.approx(exact), pytest.approx(1))
    np.testing.assert_array_equal(claimed, truth)


def test_constants_are_those_of_labelled_pixels() -> None:
    metres = np.array([[[0, 0, 2, 4]]], np.float32)
    assert depth.constant([metres], 1) == pytest.approx([3])
    lines = np.array([[[1, 0, 255, 255]]], np.float32)
    assert boundaries.constant([lines], 1) == pytest.approx([0], abs=1e-6)  # one half
    classes = np.array([[2, 2, 1, 255, 255, 255]], np.uint8)
    assert map_of("semseg").constant([classes], 3).argmax() == 2
    walls = [np.array([[0, 0, 1], [0.6, 0, 0.8]]), np.array([[0, -1, 0], [0, 0, -1], [0, 0, 0]])]
    found = directions.constant([x.T[:, None].astype(np.float32) for x in walls], 3)
    assert found == pytest.approx([0.3 / 2, -1 / 3 / 2, (0.9 - 1 / 3) / 2]), "of means of pictures"


@pytest.mark.parametrize(("options", "steps"), [({}, [0, 1234, 65535]),
                                                ({"unit": "K"}, [0, 123, 9900])])  # fmt: skip
def test_depth_is_written_in_millimetres_and_other_numbers_in_hundredths(options, steps) -> None:
    values = np.array([[[0, 1.2344, 99]]], np.float32)
    assert depth.encode(values, options).tolist() == [steps]
    assert depth.step(options) * steps[1] == pytest.approx(1.2344, abs=depth.step(options) / 2)


def test_the_constant_of_an_evaluation_is_learnt_from_train_and_scored_on_the_split(
    home: Path,
) -> None:
    info = Reader(home / "datasets" / "rooms.h5", "val").info
    config = RunConfig(dataset="rooms", tasks=("depth",), system="multi_task", size=(48, 64),
                       backbone="resnet18_half")  # fmt: skip
    content = {"config": config.to_json(), "dataset": info.to_json(), "iteration": 0}
    network = checkpoint.build_network(config, info).state_dict()
    checkpoint.save(home / "last.pt", network=network, **content)
    scored = evaluate(home / "last.pt", constant=True, device="cpu", workers=0, quiet=True)
    train, val = (depths(home / "datasets" / "rooms.h5", split) for split in ("train", "val"))
    off = math.sqrt(np.mean((val - train.mean()) ** 2))
    assert scored.results.constant["depth"] == pytest.approx(off, rel=1e-5)
    assert off > 1.001 * val.std(), "else both splits have one mean"


def depths(file: Path, split: str) -> np.ndarray:
    """Of all pixels that have one, metres."""
    reader = Reader(file, split)
    every = np.stack([reader[i]["depth"] for i in range(len(reader))]).astype(float)
    return every[every > 0]
