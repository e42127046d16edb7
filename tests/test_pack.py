"""A packed run is small and predicts the same."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mtlcli.drawing.prediction import predict
from mtlcli.runs import checkpoint, names

SMALL = ("--dataset", "rooms", "--init", "random", "--backbone", "resnet18_half", "--system",
         "multi_task", "--task", "depth", "--task", "semseg", "--iterations", 2, "--batch-size", 2,
         "--workers", 0, "--device", "cpu", "--quiet")  # fmt: skip


@pytest.fixture
def run(home, mtl):
    """A trained run folder."""
    trained = mtl("train", *SMALL, "--out", "weights/run")
    assert trained.code == 0, trained.err
    return home / "weights" / "run"


def test_a_packed_run_predicts_the_same_and_is_a_fraction_of_the_size(run, home, mtl):
    packed = mtl("pack", run, "--out", "small")
    assert packed.code == 0, packed.err
    small = home / "small" / "last.pt"
    assert small.stat().st_size < 0.3 * (run / "last.pt").stat().st_size
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    maps = [predict(checkpoint.load(p, torch.device("cpu")), image) for p in (run, small)]
    np.testing.assert_allclose(maps[0]["depth"], maps[1]["depth"], atol=0.02)
    assert mtl("eval", "small", "--device", "cpu", "--quiet", "--limit", 1).code == 0


def test_what_was_packed_is_told_as_json(run, home, mtl):
    record = json.loads(mtl("pack", run, "--out", "small", "--json").out)
    assert record["checkpoint"] == "small/last.pt"
    assert record["bytes"] == (home / "small" / "last.pt").stat().st_size
    assert record["bytes_before"] == (run / "last.pt").stat().st_size


def test_a_run_is_not_packed_over_another(run, mtl):
    assert mtl("pack", run, "--out", "small").code == 0
    again = mtl("pack", run, "--out", "small")
    assert again.code == 2
    assert "is there already" in again.err


def test_a_packed_run_cannot_be_resumed_and_says_so(run, mtl):
    mtl("pack", run, "--out", "small")
    resumed = mtl("train", "--resume", "small")
    assert resumed.code == 2
    assert "pack" in resumed.err


def test_the_shipped_network_goes_by_its_name_in_weights_too(run, home, monkeypatch):
    ours = home / "weights" / names.SHIPPED / "last.pt"
    ours.parent.mkdir()
    os.link(run / "last.pt", ours)
    monkeypatch.setattr(names, "find_shipped", lambda: ours)
    assert names.file_of(Path("nyud_small")) == ours
