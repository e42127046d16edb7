"""Mean and deviation of the input belong to the run: all that shows it pictures uses them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mtlcli import lookup
from mtlcli.drawing.prediction import network_input
from mtlcli.formats import export
from mtlcli.runs import checkpoint

OWN = ("--mean", 0.25, 0.5, 0.75, "--deviation", 0.5, 0.25, 2)
MEAN, DEVIATION = ([0.25, 0.5, 0.75], [0.5, 0.25, 2.0])
TRAIN = ("train", "--dataset", "rooms", "--system", "multi_task", "--hidden", 8, "--workers", 0,
         "--backbone", "resnet18_half", "--init", "random", "--iterations", 1, "--batch-size", 2,
         "--out", "run")  # fmt: skip


def seen(network):
    """What the network is given, from now on."""
    given = []
    network.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].clone()))
    return given


def expected(image):
    """(H, W, 3) bytes -> (3, H, W), by the formula."""
    return ((image / 255 - MEAN) / DEVIATION).transpose(2, 0, 1)


@pytest.fixture
def run(home, mtl):
    assert mtl(*TRAIN, *OWN).code == 0
    return Path("run")


def test_they_are_written_and_all_that_looks_uses_them(run, home, mtl, monkeypatch):
    config = json.loads((run / "run.json").read_text())["config"]
    assert (config["mean"], config["deviation"]) == (MEAN, DEVIATION)
    trained = checkpoint.load(run, "cpu")
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    np.testing.assert_allclose(network_input(trained, image), expected(image), atol=1e-5)
    standalone = export.Standalone(trained.network, trained.tasks, trained.config.moments)
    given = seen(trained.network)
    with torch.no_grad():
        standalone(torch.from_numpy(image)[None])
    np.testing.assert_allclose(given[0][0], expected(image), atol=1e-5)
    facts = export.facts(trained, (48, 64))
    assert (json.loads(facts["mean"]), json.loads(facts["deviation"])) == (MEAN, DEVIATION)


def test_training_and_evaluation_see_the_same_scale(home, mtl, monkeypatch):
    from mtlcli.data.reader import Reader

    given = []
    build = checkpoint.build_network

    def build_and_look(*arguments):
        network = build(*arguments)
        network.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].clone()))
        return network

    monkeypatch.setattr(checkpoint, "build_network", build_and_look)
    assert mtl(*TRAIN, *OWN).code == 0
    lowest = -np.array(MEAN) / DEVIATION
    highest = (1 - np.array(MEAN)) / DEVIATION
    batch = given[0].double().numpy()
    assert (batch.min((0, 2, 3)) >= lowest - 1e-5).all()
    assert (batch.max((0, 2, 3)) <= highest + 1e-5).all()
    steps = np.diff(np.unique(batch[:, 2]))
    assert steps[steps > 1e-6].min() == pytest.approx(1 / 255 / DEVIATION[2], rel=1e-3)
    given.clear()
    assert mtl("eval", "run", "--workers", 0).code == 0
    stored = Reader(Path("datasets/rooms.h5"), "val")[0]["image"]
    np.testing.assert_allclose(given[0][0], expected(stored), atol=1e-5)


BAD = {
    "a mean of bytes": ("--mean", 123, 116, 103),
    "a deviation of nothing": ("--deviation", 0.2, 0, 0.2),
    "no number": ("--deviation", 0.2, "nan", 0.2),
    "beyond all": ("--deviation", 0.2, "inf", 0.2),
    "below black": ("--mean", -0.1, 0.5, 0.5),
}


@pytest.mark.parametrize("case", BAD)
def test_impossible_values_are_refused_in_a_line(home, mtl, case):
    answer = mtl(*TRAIN, *BAD[case])
    assert answer.code == 2
    assert len(answer.err.strip().splitlines()) == 1
    assert BAD[case][0] in answer.err


def test_a_run_is_not_resumed_with_others(run, mtl):
    answer = mtl("train", "--resume", run, "--mean", 0.5, 0.5, 0.5)
    assert answer.code == 2
    assert "--mean" in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_a_record_of_before_means_imagenets(run):
    content = torch.load(run / "last.pt", weights_only=True)
    for name in ("mean", "deviation"):
        del content["config"][name]
    torch.save(content, run / "last.pt")
    image = np.full((48, 64, 3), 255, np.uint8)
    white = network_input(checkpoint.load(run, "cpu"), image)[:, 0, 0]
    np.testing.assert_allclose(white, [2.2489, 2.4286, 2.64], atol=1e-4)


@pytest.mark.parametrize("name", lookup.names("backbones"))
def test_our_own_backbones_have_imagenets(name):
    from mtlcli.backbones._backbone import find

    assert find(name).moments == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
