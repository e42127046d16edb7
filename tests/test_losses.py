"""Each loss equals an independent numpy formula, and unlabelled pixels change nothing."""

import numpy as np
import pytest
import torch

from mtlcli import lookup

OPTIONS = {"positive_weight": 0.8}
TASKS = {name: lookup.load("tasks", name).TASK for name in lookup.names("tasks")}
CLASSES = 5
H, W = 6, 7


def example(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits (2, C, H, W), targets of the batch, and (2, H, W) where there is a label."""
    task = TASKS[name]
    channels = task.outputs(["x"] * CLASSES)
    logits = rng.normal(size=(2, channels, H, W))
    labelled = rng.random((2, H, W)) < 0.7
    if name == "depth":
        target = rng.uniform(0.5, 9, (2, 1, H, W))
    elif name == "normals":
        target = rng.normal(size=(2, 3, H, W))
        target /= np.linalg.norm(target, axis=1, keepdims=True)
    elif name == "edge":
        target = (rng.random((2, 1, H, W)) < 0.3).astype(float)
    else:
        target = rng.integers(0, channels, (2, H, W))
    return logits, hide(target, labelled, task.map.unlabelled), labelled


def hide(target: np.ndarray, labelled: np.ndarray, ignore: float) -> np.ndarray:
    mask = labelled if target.ndim == 3 else labelled[:, None]
    hidden = np.where(mask, target, ignore)
    return hidden.astype(np.uint8 if target.ndim == 3 else np.float64)


def log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def cross_entropy(logits, target, labelled):
    minus = -log_softmax(logits)
    chosen = np.take_along_axis(minus, np.where(labelled, target, 0)[:, None], 1)[:, 0]
    return chosen


def expected(name: str, logits: np.ndarray, target: np.ndarray, labelled: np.ndarray) -> float:
    if name in ("semseg", "human_parts"):
        return cross_entropy(logits, target, labelled)[labelled].mean()
    if name == "sal":
        ones = (target[labelled] == 1).mean()
        weight = np.where(target == 1, 1 - ones, ones)
        return (cross_entropy(logits, target, labelled) * weight)[labelled].mean()
    if name == "depth":
        return np.abs(logits - target)[:, 0][labelled].mean()
    if name == "normals":
        unit = logits / np.linalg.norm(logits, axis=1, keepdims=True)
        return np.abs(unit - target).sum(axis=1)[labelled].mean()
    p = 1 / (1 + np.exp(-logits[:, 0][labelled]))
    y = target[:, 0][labelled]
    return -(0.8 * y * np.log(p) + 0.2 * (1 - y) * np.log(1 - p)).mean()


def loss(name: str, logits: np.ndarray, target: np.ndarray) -> torch.Tensor:
    return TASKS[name].loss(torch.from_numpy(logits), torch.from_numpy(target), OPTIONS)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_loss_equals_its_formula(name: str) -> None:
    logits, target, labelled = example(name, np.random.default_rng(1))
    assert loss(name, logits, target).item() == pytest.approx(
        expected(name, logits, target, labelled), rel=1e-6
    )


@pytest.mark.parametrize("name", sorted(TASKS))
def test_unlabelled_pixels_change_neither_loss_nor_gradient(name: str) -> None:
    rng = np.random.default_rng(2)
    logits, target, labelled = example(name, rng)
    other = np.where(labelled[:, None], logits, rng.normal(size=logits.shape))
    assert loss(name, logits, target).item() == pytest.approx(loss(name, other, target).item())
    variable = torch.from_numpy(logits).requires_grad_()
    TASKS[name].loss(variable, torch.from_numpy(target), OPTIONS).backward()
    assert not variable.grad.numpy()[~np.broadcast_to(labelled[:, None], logits.shape)].any()


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_batch_without_labels_gives_zero_and_a_zero_gradient(name: str) -> None:
    logits, target, _ = example(name, np.random.default_rng(3))
    target = np.full_like(target, TASKS[name].map.unlabelled)
    variable = torch.from_numpy(logits).requires_grad_()
    value = TASKS[name].loss(variable, torch.from_numpy(target), OPTIONS)
    value.backward()
    assert value.item() == 0
    assert not variable.grad.any()
