"""Counts against scipy's assignment solver and skimage's thinning, and against the original's.

`oracle_match` and `oracle_counts` share nothing with the package: numpy, scipy and skimage only.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_array, hstack
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial.distance import cdist
from skimage.morphology import thin as skimage_thin

from mtlcli.boundary import (
    BSDS,
    MTI,
    SEISM,
    ground_truth,
    image_counts,
    quantise,
    region_boundaries,
)
from mtlcli.boundary.assignment import cheapest_matchings
from mtlcli.boundary.counts import ranks
from mtlcli.boundary.matching import matching_sizes
from mtlcli.boundary.pairs import candidate_pairs
from mtlcli.boundary.planes import nested_planes, plane_sizes
from mtlcli.errors import InputError

REAL = os.environ.get("MTL_REAL_DATA")
needs_real_data = pytest.mark.skipif(not REAL, reason="MTL_REAL_DATA is not set")
CASES = sorted(Path(REAL, "boundary").glob("*.npz")) if REAL else []


def oracle_match(predicted, truth, radius, by_distance=False):
    """Cost and (rows, columns) of the best matching of two (H, W) masks, by scipy's LAPJVsp.

    Every row has a private dummy column to stay alone at the outlier cost. Costs are the distance
    in 1/100 px, or 1 per pair and 2 per lone pixel for the largest matching; all plus 1, because
    a sparse array has no zeros.
    """
    rows, columns = np.argwhere(predicted), np.argwhere(truth)
    if not len(rows) or not len(columns):
        return 0, (np.empty(0, int), np.empty(0, int))
    distance = cdist(rows, columns)
    i, j = np.nonzero(np.rint(distance**2) <= radius**2)
    lone = np.ceil(100 * 100 * radius) if by_distance else 2
    cost = np.rint(100 * distance[i, j]) if by_distance else np.ones(len(i))
    real = coo_array((cost + 1, (i, j)), distance.shape)
    own = coo_array((np.full(len(rows), lone + 1), (np.arange(len(rows)),) * 2))
    matched, partner = min_weight_full_bipartite_matching(hstack([real, own]).tocsr())
    pairs = partner < len(columns)
    total = hstack([real, own]).tocsr()[matched, partner].sum() - len(rows)
    return total, (matched[pairs], partner[pairs])


def oracle_counts(prediction, truths, thresholds, max_dist):
    """cntR, sumR, cntP, sumP per threshold for `prediction / 255 >= t`, (4, K)."""
    radius = max_dist * np.hypot(*prediction.shape)
    table = []
    for threshold in thresholds:
        predicted = skimage_thin(prediction / 255 >= threshold)
        results = [oracle_match(predicted, t, radius, len(truths) > 1)[1] for t in truths]
        cntR = sum(len(pairs[0]) for pairs in results)
        cntP = len(set(np.concatenate([pairs[0] for pairs in results])))
        table.append([cntR, sum(np.count_nonzero(t) for t in truths), cntP, predicted.sum()])
    return np.array(table).T


def random_maps(rng, annotators=1):
    """A blotchy 8-bit prediction of up to 12 x 12 px and sparse ground truths of its size."""
    height, width = rng.integers(1, 13, 2)
    prediction = (rng.random((height, width)) ** rng.uniform(0.3, 4) * 255).astype(np.uint8)
    density = rng.uniform(0, 0.6)
    return prediction, [rng.random((height, width)) < density for _ in range(annotators)]


def as_table(counts):
    return np.array([counts.cntR, counts.sumR, counts.cntP, counts.sumP])


def thin_masks(rng):
    shape = tuple(rng.integers(2, 14, 2))
    return rng.random(shape) < 0.35, rng.random(shape) < 0.35, rng.uniform(0.5, 4)


def largest(predicted, truth, radius):
    """Size of the package's matching of two masks taken as they are."""
    pixels = np.flatnonzero(predicted)
    partners = candidate_pairs(pixels, np.flatnonzero(truth), truth.shape, radius)
    planes = nested_planes(np.ones(len(pixels), np.uint16), 1)
    return matching_sizes(planes, 1, *partners)[0]


def test_counts_of_thousands_of_small_maps_equal_scipys():
    rng = np.random.default_rng(1)
    protocol = replace(MTI, thresholds=(0.02, 0.1, 0.2, 0.35, 0.5, 0.6, 0.8, 0.95))
    for _ in range(300):
        prediction, truths = random_maps(rng)
        max_dist = rng.uniform(0.02, 0.3)
        ours = image_counts(prediction, truths[0], protocol, max_dist=max_dist)
        oracle = oracle_counts(prediction, truths, protocol.thresholds, max_dist)
        np.testing.assert_array_equal(as_table(ours), oracle)


def test_more_than_64_thresholds_count_like_each_alone():
    rng = np.random.default_rng(2)
    for _ in range(5):
        prediction, truths = random_maps(rng)
        ours = image_counts(prediction, truths[0], MTI, max_dist=0.15)
        np.testing.assert_array_equal(
            as_table(ours), oracle_counts(prediction, truths, MTI.thresholds, 0.15)
        )


def test_matching_with_an_annotator_is_as_cheap_as_scipys_at_every_threshold():
    rng = np.random.default_rng(3)
    count = 6
    for _ in range(150):
        predicted, truth, radius = thin_masks(rng)
        pixels = np.flatnonzero(predicted)
        # arbitrary planes, not nested: pixels come and go between thresholds
        planes = rng.integers(0, 1 << count, (len(pixels), 1)).astype(np.uint64)
        partners = candidate_pairs(pixels, np.flatnonzero(truth), truth.shape, radius)
        sizes, matched = cheapest_matchings(planes, count, *partners, radius)
        for k in range(count):
            on, used = np.zeros(truth.shape, bool), np.zeros(truth.shape, bool)
            on.flat[pixels] = planes[:, 0] >> np.uint64(k) & np.uint64(1)
            used.flat[pixels] = matched[:, 0] >> np.uint64(k) & np.uint64(1)
            assert used.sum() == sizes[k]
            assert not (used & ~on).any()
            cost, pairs = oracle_match(on, truth, radius, by_distance=True)
            used_cost, used_pairs = oracle_match(used, truth, radius, by_distance=True)
            lone = np.ceil(100 * 100 * radius) * (on.sum() - used.sum())
            assert len(pairs[0]) == len(used_pairs[0]) == sizes[k]
            if truth.any():
                assert used_cost + lone == cost


def test_several_annotators_sum_their_matches_and_unite_their_pixels():
    rng = np.random.default_rng(4)
    protocol = replace(BSDS, thresholds=(0.1, 0.3, 0.5, 0.7))
    for _ in range(60):
        prediction, truths = random_maps(rng, annotators=3)
        ours = as_table(image_counts(prediction, truths, protocol, max_dist=0.12))
        oracle = oracle_counts(prediction, truths, protocol.thresholds, 0.12)
        np.testing.assert_array_equal(ours[[0, 1, 3]], oracle[[0, 1, 3]])
        # equally cheap matchings may unite to different numbers of pixels, within these bounds
        alone = [image_counts(prediction, t, protocol, max_dist=0.12).cntP for t in truths]
        assert (np.max(alone, axis=0) <= ours[2]).all()
        assert (ours[2] <= np.minimum(ours[0], ours[3])).all()


def test_an_annotator_given_twice_doubles_recall_counts_only():
    rng = np.random.default_rng(5)
    prediction, truths = random_maps(rng)
    once = image_counts(prediction, truths[0], BSDS, max_dist=0.1)
    twice = image_counts(prediction, truths * 2, BSDS, max_dist=0.1)
    np.testing.assert_array_equal(as_table(twice), as_table(once) * [[2], [2], [1], [1]])


def test_the_count_never_grows_when_a_pixel_is_removed():
    rng = np.random.default_rng(6)
    for _ in range(60):
        predicted, truth, radius = thin_masks(rng)
        full = largest(predicted, truth, radius)
        for mask in (predicted, truth):
            for y, x in np.argwhere(mask)[:8]:
                mask[y, x] = False
                assert full - 1 <= largest(predicted, truth, radius) <= full
                mask[y, x] = True


def test_the_count_is_symmetric_under_mirror_transpose_and_exchange():
    rng = np.random.default_rng(7)
    for _ in range(300):
        predicted, truth, radius = thin_masks(rng)
        size = largest(predicted, truth, radius)
        assert size == largest(predicted[:, ::-1], truth[:, ::-1], radius)
        assert size == largest(predicted[::-1], truth[::-1], radius)
        assert size == largest(predicted.T, truth.T, radius)
        assert size == largest(truth, predicted, radius)


def test_a_pair_exactly_at_the_tolerance_is_allowed():
    predicted, truth = np.zeros((480, 640), bool), np.zeros((480, 640), bool)
    predicted[100, 100] = truth[100, 106] = True  # 0.0075 of the 800 px diagonal is 6 px
    assert largest(predicted, truth, 0.0075 * np.sqrt(480.0**2 + 640.0**2)) == 1
    assert largest(predicted, truth, np.nextafter(6, 0)) == 0


@pytest.mark.parametrize("protocol", [SEISM, MTI, BSDS], ids=lambda p: p.name)
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 2), (9, 40)], ids=str)
def test_tiny_images_and_empty_maps_are_counted(protocol, shape):
    line = np.full(shape, 255, np.uint8)
    empty = np.zeros_like(line)
    for prediction, truth in ((line, empty), (empty, line), (empty, empty)):
        counts = image_counts(prediction, truth, protocol, max_dist=0.05)
        assert not counts.cntR.any()
        assert not counts.cntP.any()
        assert (counts.sumR == np.count_nonzero(truth)).all()
        assert counts.sumP.any() == (prediction.any() and ranks(prediction, protocol).any())


def test_a_perfect_prediction_is_matched_in_full():
    truth = np.zeros((40, 60), bool)
    truth[20, 5:50] = True
    counts = image_counts(truth.astype(np.uint8) * 255, truth, MTI)
    assert (as_table(counts) == 45).all()


def test_grey_levels_on_a_threshold_fall_as_in_the_originals():
    flat = np.full((30, 30), 51, np.uint8)  # 51 / 255 is the threshold 0.2
    at = SEISM.thresholds.index(0.2)
    # seism compares single(51 / 255) > double(0.2), which is true
    assert ranks(flat, SEISM)[15, 15] == at + 1
    assert ranks(flat, MTI)[15, 15] == MTI.thresholds.index(0.2) + 1
    assert ranks(flat - 1, MTI)[15, 15] == MTI.thresholds.index(0.2)
    assert (len(SEISM.thresholds), len(MTI.thresholds)) == (101, 99)


def test_region_boundaries_compare_right_below_and_below_right():
    rng = np.random.default_rng(8)
    labels = rng.integers(0, 3, (7, 9))
    padded = np.pad(labels, ((0, 1), (0, 1)), mode="edge").astype(float)
    for y in range(7):
        for x in range(9):
            inside = [(dy, dx) for dy, dx in ((0, 1), (1, 0), (1, 1)) if y + dy < 7 and x + dx < 9]
            differs = any(padded[y, x] != padded[y + dy, x + dx] for dy, dx in inside)
            assert region_boundaries(labels)[y, x] == differs


def test_an_edge_map_taken_as_partition_is_thinned_from_its_double_contour():
    edge = np.zeros((20, 20), np.uint8)
    edge[10, 3:17] = 255
    assert (ground_truth(edge, "boundary") == (edge > 0)).all()
    thinned = ground_truth(edge, "partition")
    np.testing.assert_array_equal(thinned, skimage_thin(region_boundaries(edge)))
    assert 0 < thinned.sum() < region_boundaries(edge).sum()


def test_probabilities_are_truncated_to_eight_bits():
    levels = np.arange(256)
    np.testing.assert_array_equal(quantise((levels + 0.5) / 256), (levels * 255 + 127) // 256)
    assert quantise(np.array([0.0, 0.999, 1.0], np.float16)).tolist() == [0, 254, 255]


@pytest.mark.parametrize("bad", [np.nan, -0.01, 1.5, np.inf])
def test_values_that_are_no_probability_are_refused(bad):
    with pytest.raises(InputError, match="expected"):
        quantise(np.array([[0.5, bad]]))


def test_maps_of_different_size_or_type_are_refused():
    prediction = np.zeros((4, 5), np.uint8)
    with pytest.raises(InputError, match=r"4x5 px .* 5x4"):
        image_counts(prediction, prediction.T, MTI)
    with pytest.raises(InputError, match="float32"):
        image_counts(prediction.astype(np.float32), prediction, MTI)


def test_kernels_compile_where_no_cache_folder_can_be_written(monkeypatch):
    from mtlcli.boundary import kernel

    def no_cache(cache=False, nogil=False):
        def compile_(function):
            if cache:
                raise RuntimeError("cannot cache function: no locator available")
            return function

        return compile_

    monkeypatch.setattr(kernel, "njit", no_cache)
    assert kernel.kernel(abs)(-3) == 3


def load(path):
    case = np.load(path)
    truths = np.unpackbits(case["gt"], axis=-1)[..., : case["pred"].shape[1]].astype(bool)
    rule = {"invpt": SEISM, "mtinet": MTI, "bsds": BSDS}[str(case["protocol"])]
    return case, truths, replace(rule, thresholds=tuple(case["thr"].tolist()))


@needs_real_data
@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_counts_equal_the_reference_cases(path):
    case, truths, protocol = load(path)
    counts = image_counts(case["pred"], list(truths), protocol, max_dist=float(case["max_dist"]))
    np.testing.assert_array_equal(counts.sumP, case["sumP"])
    np.testing.assert_array_equal(counts.sumR, case["sumR"])
    assert (counts.cntR >= case["cntR"]).all()
    if case["ngt"] == 1:
        np.testing.assert_array_equal(counts.cntR, case["exact_k"])
        np.testing.assert_array_equal(counts.cntP, case["exact_k"])
    else:
        assert (np.abs(counts.cntP - case["cntP"]) <= 15).all()


@needs_real_data
@pytest.mark.parametrize(
    "path", [p for p in CASES if p.stem.startswith("a_")], ids=lambda p: p.stem
)
def test_several_annotators_stay_close_to_the_published_matlab_counts(path):
    case, truths, _ = load(path)
    published = case["matlab99"].T[1:]  # cntR sumR cntP sumP
    ours = as_table(image_counts(case["pred"], list(truths), BSDS))
    np.testing.assert_array_equal(ours[[1, 3]], published[[1, 3]])
    assert (ours[0] >= published[0]).all()
    assert ours[0].sum() <= 1.002 * published[0].sum()
    assert abs(ours[2].sum() - published[2].sum()) <= 0.0005 * published[2].sum()


@needs_real_data
@pytest.mark.parametrize(
    "path", [p for p in CASES if p.stem.startswith("f_")], ids=lambda p: p.stem
)
def test_minimum_cost_sizes_equal_the_reference_where_they_are_known(path):
    case, truths, protocol = load(path)
    twice = [truths[0], truths[0]]  # two annotators, so that the minimum-cost matching is used
    counts = image_counts(case["pred"], twice, protocol, max_dist=float(case["max_dist"]))
    known = case["ideal_mincost_k"] >= 0
    np.testing.assert_array_equal(counts.cntP[known], case["ideal_mincost_k"][known])


def test_plane_sizes_count_the_bits():
    planes = np.random.default_rng(9).integers(0, 1 << 63, (50, 2)).astype(np.uint64)
    bits = (planes[:, :, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)).reshape(50, 128)
    np.testing.assert_array_equal(plane_sizes(planes, 100), bits.sum(axis=0)[:100])
