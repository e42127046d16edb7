"""Scores equal an independent numpy computation, however the pixels arrive."""

import math

import numpy as np
import pytest
import torch

from mtlcli import lookup
from mtlcli.tasks._shared import intersection_over_union

CLASSES = 6
IMAGES = 5
H, W = 13, 17
MEASURED = ("semseg", "human_parts", "sal", "depth", "normals")


def task(name: str):
    return lookup.load("tasks", name).TASK


def example(name: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits (N, C, H, W) float32, targets (N, ...), labelled (N, H, W)."""
    rng = np.random.default_rng(seed)
    channels = task(name).outputs(["x"] * CLASSES)
    logits = rng.normal(size=(IMAGES, channels, H, W)).astype(np.float32)
    labelled = rng.random((IMAGES, H, W)) < 0.8
    if name == "depth":
        target = rng.uniform(0.5, 9, (IMAGES, 1, H, W)).astype(np.float32)
        target[~labelled[:, None]] = 0
    elif name == "normals":
        target = rng.normal(size=(IMAGES, 3, H, W)).astype(np.float32)
        target /= np.linalg.norm(target, axis=1, keepdims=True)
        target *= labelled[:, None]
    else:
        target = rng.integers(0, channels, (IMAGES, H, W)).astype(np.uint8)
        target[~labelled] = 255
    return logits, target, labelled


def statistics(name: str, logits: np.ndarray, target: np.ndarray) -> list:
    measure = task(name).measure
    return [measure(torch.from_numpy(x), torch.from_numpy(y), {}) for x, y in zip(logits, target)]


def score(name: str, logits: np.ndarray, target: np.ndarray) -> float:
    return task(name).score(statistics(name, logits, target), {})[task(name).metric]


def all_at_once(name: str, logits: np.ndarray, target: np.ndarray, labelled: np.ndarray) -> float:
    logits = logits.astype(np.float64)
    if name in ("semseg", "human_parts"):
        prediction = logits.argmax(axis=1)[labelled]
        truth = target[labelled]
        ious = [
            ((prediction == c) & (truth == c)).sum() / ((prediction == c) | (truth == c)).sum()
            for c in range(CLASSES)
        ]
        return float(np.mean(ious))
    if name == "sal":
        chance = (1 / (1 + np.exp(logits[:, 0] - logits[:, 1])))[labelled]
        truth = target[labelled] == 1
        best = 0.0
        for threshold in np.arange(0.05, 0.96, 0.05):
            claimed = chance >= threshold
            hits = (claimed & truth).sum()
            precision, recall = hits / max(claimed.sum(), 1), hits / truth.sum()
            if precision + recall:
                best = max(best, 1.3 * precision * recall / (0.3 * precision + recall))
        return best
    if name == "depth":
        error = np.maximum(logits, 0)[:, 0][labelled] - target[:, 0][labelled]
        return math.sqrt((error**2).mean())
    unit = logits / np.linalg.norm(logits, axis=1, keepdims=True)
    cosine = (unit * target).sum(axis=1)[labelled]
    return float(np.degrees(np.arccos(cosine.clip(-1, 1))).mean())


@pytest.mark.parametrize("name", MEASURED)
def test_score_equals_numpy_over_all_pixels(name: str) -> None:
    logits, target, labelled = example(name)
    assert score(name, logits, target) == pytest.approx(
        all_at_once(name, logits, target, labelled), rel=1e-5
    )


@pytest.mark.parametrize("name", MEASURED)
def test_unlabelled_pixels_change_nothing(name: str) -> None:
    logits, target, labelled = example(name)
    noise = np.random.default_rng(9).normal(size=logits.shape).astype(np.float32)
    other = np.where(labelled[:, None], logits, noise)
    assert score(name, other, target) == score(name, logits, target)


@pytest.mark.parametrize("name", MEASURED)
def test_order_and_pieces_change_nothing(name: str) -> None:
    logits, target, _ = example(name)
    whole = statistics(name, logits, target)
    cut = 6
    pieces = statistics(name, logits[..., :cut], target[..., :cut])
    pieces += statistics(name, logits[..., cut:], target[..., cut:])
    metric = task(name).metric
    assert task(name).score(whole[::-1], {})[metric] == task(name).score(whole, {})[metric]
    assert task(name).score(pieces, {})[metric] == pytest.approx(
        task(name).score(whole, {})[metric], rel=1e-12
    )


def test_perfect_predictions_score_best() -> None:
    _, classes, _ = example("semseg")
    onehot = (classes[:, None] == np.arange(CLASSES)[None, :, None, None]).astype(np.float32)
    assert score("semseg", onehot, classes) == 1
    _, depth, _ = example("depth")
    assert score("depth", depth, depth) == 0
    _, normals, _ = example("normals")
    assert score("normals", 7 * normals, normals) == pytest.approx(0, abs=1e-4)


def test_the_mean_is_over_the_classes_of_the_labels_whatever_is_predicted() -> None:
    matrix = np.array([[3, 1, 0, 0], [0, 4, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]])  # 2 is a mistake
    scores = intersection_over_union([{"matrix": matrix}], {})
    assert scores["mIoU"] == pytest.approx((3 / 4 + 4 / 7) / 2)
    assert scores["mIoU/all"] == pytest.approx((3 / 4 + 4 / 7 + 0 + 0) / 4)
    assert math.isnan(scores["IoU/2"])
    assert math.isnan(scores["IoU/3"])


@pytest.mark.parametrize("guess", range(CLASSES))
def test_every_constant_prediction_is_divided_by_the_same_number_of_classes(guess: int) -> None:
    """Labels of classes 0, 2 and 3 alone; IoU written out over sets of pixels."""
    rng = np.random.default_rng(1)
    target = rng.choice([0, 2, 3], (IMAGES, H, W)).astype(np.uint8)
    logits = np.zeros((IMAGES, CLASSES, H, W), np.float32)
    logits[:, guess] = 1
    share = float((target == guess).mean())
    found = task("semseg").score(statistics("semseg", logits, target), {})
    assert found["mIoU"] == pytest.approx(share / 3)
    assert found["mIoU/all"] == pytest.approx(share / CLASSES)


def test_where_every_class_has_labels_both_means_are_one() -> None:
    logits, target, _ = example("semseg")
    found = task("semseg").score(statistics("semseg", logits, target), {})
    assert found["mIoU"] == pytest.approx(found["mIoU/all"], rel=1e-12)


def test_of_equal_logits_the_first_class_is_predicted() -> None:
    logits = torch.tensor([[0.0, 1.0], [0.0, 2.0], [-1.0, 2.0]])[None, :, None]
    assert task("semseg").decode(logits).tolist() == [[[0, 1]]]


def test_nothing_labelled_has_no_score() -> None:
    for name in MEASURED:
        logits, target, _ = example(name)
        nothing = np.full_like(target, task(name).map.unlabelled)
        assert math.isnan(score(name, logits, nothing)), name


@pytest.mark.parametrize("name", [*MEASURED, "edge"])
def test_no_picture_at_all_has_no_score(name: str) -> None:
    assert math.isnan(task(name).score([], {})[task(name).metric])


def test_angles_near_0_and_180_degrees_are_exact() -> None:
    target = torch.zeros(3, 1, 2)
    target[2] = 1.0
    small = math.radians(1e-3)
    logits = torch.tensor([[[small, 0.0]], [[0.0, 0.0]], [[1.0, -1.0]]])
    result = task("normals").measure(logits, target, {})
    assert float(result["sum"]) == pytest.approx(180 + 1e-3, abs=1e-6)


def test_the_curve_of_saliency_is_recall_and_precision_over_all_pixels() -> None:
    logits, target, labelled = example("sal")
    curve = task("sal").curve(statistics("sal", logits, target), {})
    chance = (1 / (1 + np.exp(logits[:, 0].astype(float) - logits[:, 1])))[labelled]
    claimed = chance >= np.arange(0.05, 0.96, 0.05)[:, None]
    truth = target[labelled] == 1
    hits = (claimed & truth).sum(1)
    assert curve["thresholds"] == pytest.approx([k / 20 for k in range(1, 20)])
    assert curve["recall"] == pytest.approx(hits / truth.sum(), abs=1e-6)
    assert curve["precision"] == pytest.approx(hits / claimed.sum(1), abs=1e-6)


HUNDREDTHS = [k / 100 for k in range(1, 100)]


@pytest.mark.parametrize(
    ("protocol", "thresholds"),
    [(None, [0.001, *HUNDREDTHS, 0.999]), ("mti", HUNDREDTHS), ("bsds", HUNDREDTHS)],
)
def test_boundaries_are_scored_and_drawn_by_their_protocol(
    protocol: str | None, thresholds: list[float]
) -> None:
    """Of counts of three pictures: recall and precision pooled, the best F and its threshold; with
    bsds the best of 100 points between neighbours.
    """
    rng, counts = np.random.default_rng(0), []
    for _ in range(3):
        sums = rng.integers(50, 99, (2, len(thresholds)))
        found = rng.integers(5, 50, sums.shape)
        counts.append(dict(zip(("cntR", "cntP", "sumR", "sumP"), (*found, *sums))))
    pooled = {key: np.sum([each[key] for each in counts], 0) for key in counts[0]}
    recall, precision = (pooled[f"cnt{x}"] / pooled[f"sum{x}"] for x in "RP")
    options = {"protocol": protocol} if protocol else {}
    curve = task("edge").curve(counts, options)
    assert curve["thresholds"] == pytest.approx(thresholds)
    assert curve["recall"] == pytest.approx(recall, abs=1e-6)
    assert curve["precision"] == pytest.approx(precision, abs=1e-6)
    at = np.arange(0, len(thresholds) - 1 + 1e-9, 1 / 99 if protocol == "bsds" else 1)
    levels, r, p = (
        np.interp(at, range(len(thresholds)), values) for values in (thresholds, recall, precision)
    )
    f = 2 * r * p / (r + p)
    scores = task("edge").score(counts, options)
    assert scores["odsF"] == pytest.approx(f.max())
    assert scores["threshold"] == pytest.approx(levels[f.argmax()], abs=1e-9)
