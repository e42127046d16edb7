"""seism's non-maximum suppression against its definition in float64, and the original's bits."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import convolve1d, gaussian_filter, map_coordinates

from mtlcli.boundary.nms import damp_border, smooth, suppress

REAL = os.environ.get("MTL_REAL_DATA")
CASES = sorted(Path(REAL, "boundary").glob("*.npz")) if REAL else []


def soft_map(seed, shape=(70, 90)):
    noise = gaussian_filter(np.random.default_rng(seed).random(shape), 2.5)
    return np.uint8(255 * (noise - noise.min()) / np.ptp(noise))


def triangle(image):
    weights = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 25
    rows = convolve1d(image.astype(float), weights, axis=0, mode="reflect")
    return convolve1d(rows, weights, axis=1, mode="reflect")


def by_definition(prediction):
    """Suppressed map in float64, by scipy's interpolation."""
    edge = prediction / 255
    dy, dx = np.gradient(triangle(edge))
    _, dxx = np.gradient(dx)
    dyy, dyx = np.gradient(dy)
    angle = np.mod(np.arctan(dyy * np.sign(-dyx) / (dxx + 1e-5)), np.pi)
    y, x = np.mgrid[: edge.shape[0], : edge.shape[1]]
    kept = edge.copy()
    for side in (-1, 1):
        at_y = np.clip(y + side * np.sin(angle), 0, edge.shape[0] - 1.001)
        at_x = np.clip(x + side * np.cos(angle), 0, edge.shape[1] - 1.001)
        kept[1.01 * edge < map_coordinates(edge, [at_y, at_x], order=1)] = 0
    for axis in (0, 1):
        ramp = np.ones(edge.shape[axis])
        ramp[:5] = np.arange(5) / 5
        ramp[-5:] = ramp[:5][::-1]
        kept *= np.expand_dims(ramp, 1 - axis)
    return kept


@pytest.mark.parametrize("seed", range(4))
def test_suppression_follows_its_definition(seed):
    prediction = soft_map(seed)
    differs = np.abs(suppress(prediction) - by_definition(prediction)) > 1e-5
    assert differs.mean() < 0.005  # float32 ties only
    assert 0.02 < (suppress(prediction) > 0).mean() < 0.6


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (9, 9), (10, 10), (11, 64), (64, 11)], ids=str)
def test_smoothing_is_the_mirrored_triangle_filter(shape):
    image = np.random.default_rng(5).random(shape).astype(np.float32)
    np.testing.assert_allclose(smooth(image), triangle(image), atol=2e-5)


def test_a_flat_map_survives_except_at_the_border():
    flat = suppress(np.full((40, 40), 200, np.uint8))
    np.testing.assert_array_equal(flat[5:-5, 5:-5], np.float32(200) / np.float32(255))
    assert not flat[0].any()
    assert not flat[:, -1].any()


def test_a_blurred_line_is_thinned_to_its_ridge():
    line = np.zeros((60, 60))
    line[:, 30] = 1
    blurred = np.uint8(255 * gaussian_filter(line, [0, 3]) / gaussian_filter(line, [0, 3]).max())
    kept = suppress(blurred)[10:-10] > 0.5
    assert (kept.sum(axis=1) == 1).all()
    assert kept[:, 30].all()


def test_the_border_ramp_shrinks_with_the_image():
    ones = np.ones((4, 20), np.float32)
    np.testing.assert_allclose(damp_border(ones)[:, 10], [0, 0.5, 0.5, 0])
    np.testing.assert_array_equal(damp_border(np.ones((1, 9), np.float32)), np.ones((1, 9)))


@pytest.mark.skipif(not REAL, reason="MTL_REAL_DATA is not set")
def test_suppressed_maps_equal_the_originals_bit_for_bit():
    checked = 0
    for path in CASES:
        case = np.load(path)
        if str(case["protocol"]) == "invpt":
            np.testing.assert_array_equal(suppress(case["pred"]), case["nms"])
            checked += 1
    assert checked


def test_a_pixel_that_lifted_equals_its_neighbour_stays() -> None:
    """100 x 1.01 is 101, also in float32; only what is lower goes."""
    stripe = np.zeros((60, 80), np.uint8)
    stripe[:, 39:41] = 100, 101
    assert np.float32(100 / 255) * np.float32(1.01) == np.float32(101 / 255)
    assert suppress(stripe)[30, 39:41].all()
    stripe[:, 40] = 102
    assert suppress(stripe)[30, 39:41].astype(bool).tolist() == [False, True]
