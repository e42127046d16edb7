"""Thinning against skimage's, which equals MATLAB's `bwmorph(., 'thin', inf)`."""

import numpy as np
import pytest
from skimage.morphology import thin as skimage_thin

from mtlcli.boundary.thinning import thin, thin_planes


def test_random_maps_are_thinned_as_by_skimage():
    rng = np.random.default_rng(1)
    for _ in range(1000):
        mask = rng.random(rng.integers(1, 16, 2)) < rng.random()
        np.testing.assert_array_equal(thin(mask), skimage_thin(mask))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 101, 130])
def test_all_thresholds_at_once_equal_one_at_a_time(count):
    ranks = np.random.default_rng(count).integers(0, count + 1, (23, 31)).astype(np.uint16)
    pixels, planes = thin_planes(ranks, count)
    for k in range(count):
        alone = np.zeros(ranks.shape, bool)
        alone.flat[pixels] = planes[:, k // 64] >> np.uint64(k % 64) & np.uint64(1)
        np.testing.assert_array_equal(alone, skimage_thin(ranks > k))


def test_thinning_a_thin_map_changes_nothing():
    disk = np.hypot(*np.mgrid[-20:21, -20:21]) < 18
    once = thin(disk)
    assert 0 < once.sum() < disk.sum()
    np.testing.assert_array_equal(thin(once), once)


def test_any_non_zero_value_is_on_and_the_input_is_left_alone():
    grey = np.array([[0, 1, 255], [7, 7, 7]], np.uint8)
    before = grey.copy()
    np.testing.assert_array_equal(thin(grey), skimage_thin(grey > 0))
    np.testing.assert_array_equal(grey, before)
