"""odsF, oisF and AP from counts made by hand, by seism's rules and by those of BSDS / Dollar."""

from dataclasses import replace

import numpy as np
import pytest

from mtlcli.boundary import BSDS, SEISM, Counts, score
from mtlcli.boundary.pairs import candidate_pairs
from mtlcli.boundary.scores import average_precision, best_interpolated
from mtlcli.errors import InputError

TWO = replace(SEISM, thresholds=(0.3, 0.6))
TWO_BSDS = replace(BSDS, thresholds=(0.3, 0.6))


def counts(cntR, sumR, cntP, sumP, id="a"):
    arrays = (np.array(v, np.int64) for v in (cntR, sumR, cntP, sumP))
    return Counts(id=id, **dict(zip(("cntR", "sumR", "cntP", "sumP"), arrays)))


A = counts([8, 4], [10, 10], [8, 4], [20, 4])  # R .8 .4, P .4 1, F .533 .571
B = counts([9, 1], [10, 10], [9, 1], [10, 1], id="b")  # R .9 .1, P .9 1, F .9 .182


def test_seism_takes_the_best_pooled_threshold_without_interpolation():
    s = score([A, B], TWO)
    # pooled: R 17/20 5/20, P 17/30 5/5
    assert (s.threshold, s.recall, s.precision) == (0.3, 17 / 20, 17 / 30)
    assert s.odsF == pytest.approx(2 * 0.85 * (17 / 30) / (0.85 + 17 / 30), abs=1e-12)
    np.testing.assert_allclose(s.curve, [[0.85, 17 / 30], [0.25, 1.0]])


def test_of_equal_pooled_scores_the_lowest_threshold_counts():
    alike = counts([5, 5], [10, 10], [5, 5], [10, 10])
    assert (score([alike], TWO).threshold, score([alike], TWO).odsF) == (0.3, 0.5)


def test_a_pair_costs_its_distance_in_rounded_hundredths_of_a_pixel():
    pixel, truth = np.array([5 * 20 + 5]), np.array([6 * 20 + 7, 6 * 20 + 6])  # 20 wide
    of_pixel, of_truth = candidate_pairs(pixel, truth, (12, 20), 3.0)
    assert of_pixel.cost.tolist() == [141, 224], "roots of 2 and 5, nearest first"
    assert of_truth.cost.tolist() == [224, 141]


def test_ois_sums_the_counts_at_each_images_best_threshold():
    expected = 2 * (13 / 20) * (13 / 14) / (13 / 20 + 13 / 14)  # A at 0.6, B at 0.3
    assert score([A, B], TWO).oisF == pytest.approx(expected, abs=1e-12)
    assert score([A, B], TWO_BSDS).oisF == pytest.approx(expected, abs=1e-12)


def test_bsds_finds_the_best_f_between_thresholds():
    s = score([A, B], TWO_BSDS)
    part = np.linspace(0, 1, 100)
    recall, precision = 0.25 * part + 0.85 * (1 - part), 1 * part + 17 / 30 * (1 - part)
    f = 2 * recall * precision / (recall + precision)
    assert s.odsF == pytest.approx(f.max(), abs=1e-12)
    assert s.odsF > score([A, B], TWO).odsF
    assert 0.3 < s.threshold < 0.6
    assert s.threshold == pytest.approx(0.3 + 0.3 * part[f.argmax()])


def test_one_threshold_is_its_own_best():
    one = np.array([0.5])
    assert best_interpolated(one, np.array([0.5]), np.array([1.0])) == (
        0.5,
        0.5,
        1.0,
        pytest.approx(2 / 3),
    )


def test_average_precision_is_101_points_over_100():
    # 0.25 ... 0.85 are 61 points on a line from P 1 to P 17/30
    expected = np.linspace(1, 17 / 30, 61).sum() / 100
    np.testing.assert_allclose(score([A, B], TWO).AP, expected, atol=1e-9)
    assert average_precision(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(1.01)
    assert average_precision(np.array([0.4, 0.4]), np.array([0.2, 0.9])) == 0


def test_of_equal_recalls_the_lowest_threshold_counts():
    recall, precision = np.array([0.5, 0.5, 0.0]), np.array([0.2, 0.8, 0.2])
    assert average_precision(recall, precision) == pytest.approx(51 * 0.2 / 100)


def test_per_image_f_is_rounded_to_six_decimals_before_the_best_is_chosen():
    # F differs in the 8th decimal, so the lower threshold wins for seism and not for BSDS
    tie = counts([50000000, 50000001], [10**8] * 2, [50000000, 50000001], [10**8] * 2)
    assert score([tie], TWO).oisF == 0.5
    assert score([tie], TWO_BSDS).oisF > 0.5


def test_an_image_without_boundaries_adds_its_false_positives():
    empty = counts([0, 0], [0, 0], [0, 0], [30, 5], id="c")
    s = score([A, empty], TWO)
    # F is 0 at both thresholds, so its lowest threshold counts for oisF: 30 pixels
    assert s.oisF == pytest.approx(2 * 0.4 * (4 / 34) / (0.4 + 4 / 34), abs=1e-12)
    assert s.curve[0].tolist() == [0.8, 8 / 50]


@pytest.mark.parametrize(
    ("case", "recall", "precision"),
    [
        (counts([0, 0], [0, 0], [0, 0], [3, 3]), 1, 0),
        (counts([0, 0], [5, 5], [0, 0], [0, 0]), 0, 1),
        (counts([0, 0], [0, 0], [0, 0], [0, 0]), 0, 1),
    ],
    ids=["no truth", "no prediction", "neither"],
)
def test_nothing_to_find_or_nothing_found_scores_zero(case, recall, precision):
    s = score([case], TWO)
    assert (s.odsF, s.oisF, s.AP) == (0, 0, 0)
    assert s.curve.tolist() == [[recall, precision]] * 2
    assert score([case], TWO_BSDS).odsF == 0


def test_scores_do_not_depend_on_the_order_of_images():
    rng = np.random.default_rng(0)
    images = []
    for i in range(20):
        sumR, sumP = rng.integers(1, 50), rng.integers(1, 50, 2)
        hit = np.minimum(rng.integers(0, 50, 2), np.minimum(sumR, sumP))
        images.append(counts(hit, [sumR] * 2, hit, sumP, id=str(i)))
    for protocol in (TWO, TWO_BSDS):
        forward, backward = score(images, protocol), score(images[::-1], protocol)
        assert (forward.odsF, forward.oisF, forward.AP) == (
            backward.odsF,
            backward.oisF,
            backward.AP,
        )


def test_no_image_at_all_is_refused():
    with pytest.raises(InputError, match="empty"):
        score([], SEISM)
