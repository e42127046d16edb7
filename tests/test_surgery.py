"""Gradient surgery against its papers' formulas on vectors, and in the training loop."""

import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from mtlcli.runs import checkpoint
from mtlcli.runs.folder import read_log
from mtlcli.training.weightings import SURGERIES

SURGERY = "extra [surgery] is not installed"
for package in ("torchjd", "quadprog", "qpsolvers", "cvxpy"):
    pytest.importorskip(package, reason=SURGERY)

TRAIN = ("train", "--dataset", "rooms", "--init", "random", "--device", "cpu", "--workers", 0,
         "--batch-size", 4, "--iterations", 4, "--quiet", "--task", "depth", "--task", "normals",
         "--system", "multi_task", "--backbone", "resnet18_half")  # fmt: skip
CONFLICT = np.array([[1.0, 0.0, 0.2], [-0.6, 1.0, 0.0], [0.3, -0.5, 2.0]])
AGREE = np.array([[1.0, 0.0], [1.0, 1.0]])


def step(name: str, gradients: np.ndarray) -> np.ndarray:
    """What a weighting makes of losses g_i . x, whose gradients at x are the g_i."""
    x = torch.zeros(gradients.shape[1], dtype=torch.float64, requires_grad=True)
    tasks = [f"task{i}" for i in range(len(gradients))]
    module = SURGERIES[name](dict.fromkeys(tasks, 1.0), [x], 1)
    rows = torch.from_numpy(gradients)
    module({task: row @ x for task, row in zip(tasks, rows)}).backward()
    assert x.grad is not None
    return x.grad.numpy()


def projected(gradients: np.ndarray, orders: Sequence[Sequence[int]]) -> np.ndarray:
    """PCGrad, algorithm 1, on the vectors themselves, each task in an order of the others."""
    total = np.zeros(gradients.shape[1])
    for own, order in zip(gradients, orders):
        vector = own.copy()
        for j in order:
            inner = vector @ gradients[j]
            if inner < 0:
                vector -= inner / (gradients[j] @ gradients[j]) * gradients[j]
        total += vector
    return total


def test_pcgrad_projects_off_what_conflicts() -> None:
    others = [[j for j in range(3) if j != i] for i in range(3)]
    possible = [
        projected(CONFLICT, (a, b, c))
        for a in permutations(others[0])
        for b in permutations(others[1])
        for c in permutations(others[2])
    ]
    torch.manual_seed(0)
    for _ in range(5):
        found = step("pcgrad", CONFLICT)
        assert min(np.abs(found - one).max() for one in possible) < 1e-5
    assert np.abs(possible[0] - CONFLICT.sum(0)).max() > 0.1


def test_cagrad_serves_the_worst_off_task_best_near_the_mean() -> None:
    """The paper's problem itself: max over d of min_i g_i . d, with |d - g_0| <= c |g_0|."""
    mean = CONFLICT.mean(0)
    radius = 0.4 * np.linalg.norm(mean)  # c, as the paper takes it for NYUv2
    found = step("cagrad", CONFLICT) / 3
    assert np.linalg.norm(found - mean) == pytest.approx(radius, rel=1e-3)
    best = minimize(
        lambda d: -d[3],
        np.append(mean, (CONFLICT @ mean).min()),
        constraints=[
            {"type": "ineq", "fun": lambda d: CONFLICT @ d[:3] - d[3]},
            {"type": "ineq", "fun": lambda d: radius**2 - ((d[:3] - mean) ** 2).sum()},
        ],
    )
    assert found == pytest.approx(best.x[:3], abs=1e-3)


def test_upgrad_sums_projections_on_the_cone_where_no_loss_rises() -> None:
    expected = np.zeros(3)
    for own in CONFLICT:
        expected += minimize(
            lambda d, own=own: ((d - own) ** 2).sum(),
            own,
            constraints={"type": "ineq", "fun": lambda d: CONFLICT @ d},
        ).x
    found = step("upgrad", CONFLICT)
    assert found == pytest.approx(expected, abs=2e-3)
    assert (CONFLICT @ found > -1e-3).all()


@pytest.mark.parametrize("name", ["pcgrad", "upgrad"])
def test_gradients_that_agree_are_summed(name: str) -> None:
    assert step(name, AGREE) == pytest.approx(AGREE.sum(0), abs=1e-3)


@pytest.mark.parametrize("name", list(SURGERIES))
def test_a_loss_that_is_not_finite_is_left_to_the_loop(name: str) -> None:
    assert np.isnan(step(name, np.array([[1.0, np.nan], [0.0, 1.0]]))).any()


@pytest.mark.parametrize("name", list(SURGERIES))
def test_every_surgery_trains_and_resumes_exactly(home: Path, mtl, name: str) -> None:
    options = ("--weighting", name, "--checkpoint-every", 2, "--keep", 2)
    answer = mtl(*TRAIN, *options, "--out", "run")
    assert answer.code == 0, answer.err
    assert answer.err == ""
    whole = checkpoint.read(home / "run")["network"]
    (home / "run" / "last.pt").write_bytes((home / "run" / "iteration_2.pt").read_bytes())
    assert mtl("train", "--resume", "run", "--workers", 0).code == 0
    again = checkpoint.read(home / "run")["network"]
    assert all(torch.equal(again[key], value) for key, value in whole.items())
    assert json.loads((home / "run" / "run.json").read_text())["config"]["weighting"] == name


def test_activations_may_be_computed_again(home: Path, mtl) -> None:
    for name, extra in (("kept", ()), ("again", ("--checkpointing",))):
        answer = mtl(*TRAIN, *extra, "--weighting", "upgrad", "--amp", "--out", name)
        assert answer.code == 0, answer.err
    kept, again = (read_log(home / name)[-1]["loss"] for name in ("kept", "again"))
    assert kept == again


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--weighting", "upgrad", "--accumulate", 2), "leave --accumulate away"),
        (("--weighting", "cagrad", "--compile"), "leave --compile away"),
        (("--weighting", "pcgrad", "--system", "single_task"), "single_task has none"),
    ],
)
def test_what_cannot_work_together_is_refused(home: Path, mtl, options, named: str) -> None:
    answer = mtl(*TRAIN, *options)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert named in answer.err
    assert not (home / "weights").exists()


def test_missing_packages_are_named(home: Path, mtl, monkeypatch) -> None:
    monkeypatch.setattr(
        "mtlcli.training.weightings.find_spec", lambda name: None if name == "cvxpy" else name
    )
    answer = mtl(*TRAIN, "--weighting", "cagrad")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "needs cvxpy: pip install" in answer.err
