"""The augmented sample shows image and labels of the same places, and marks what lies outside."""

import cv2
import numpy as np
import pytest

from mtlcli import lookup
from mtlcli.data.augment import (
    View,
    augment,
    distort_colours,
    is_balanced,
    random_view,
    show,
    whole,
)
from mtlcli.data.images import normalise
from mtlcli.data.moments import IMAGENET
from mtlcli.maps import map_of

TASKS = {name: map_of(name) for name in lookup.names("tasks")}


def coordinates(height: int, width: int) -> dict[str, np.ndarray]:
    """A sample whose depth tells the column and whose class tells the row."""
    rows, columns = np.mgrid[:height, :width]
    return {
        "image": np.stack([columns, rows, rows], axis=-1).astype(np.uint8),
        "semseg": rows.astype(np.uint8),
        "depth": (columns + 1).astype(np.float32),
        "normals": np.tile(np.array([255, 128, 200], np.uint8), (height, width, 1)),
        "edge": np.full((height, width), 255, np.uint8),
        "sal": np.ones((height, width), np.uint8),
        "human_parts": rows.astype(np.uint8),
    }


def test_scale_one_crop_is_a_copy_of_the_source() -> None:
    sample = coordinates(40, 50)
    view = View(size=(16, 20), step=(1.0, 1.0), origin=(7.0, 11.0))
    shown = show(sample, view, TASKS, IMAGENET)
    assert np.array_equal(shown["semseg"], sample["semseg"][7:23, 11:31])
    assert np.array_equal(shown["depth"][0], sample["depth"][7:23, 11:31])
    assert np.allclose(shown["image"], normalise(sample["image"][7:23, 11:31], IMAGENET))


def test_mirrored_view_flips_places_and_the_x_of_normals() -> None:
    sample = coordinates(40, 50)
    plain = show(sample, View(size=(16, 20), step=(1, 1), origin=(7, 11)), TASKS, IMAGENET)
    flipped = show(
        sample, View(size=(16, 20), step=(1, 1), origin=(7, 11), mirrored=True), TASKS, IMAGENET
    )
    for name in TASKS:
        same = flipped[name][..., ::-1].copy()
        if name == "normals":
            same[0] *= -1
        assert np.array_equal(same, plain[name]), name


@pytest.mark.parametrize("zoom", [0.5, 0.83, 1.7, 2.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_image_and_labels_show_the_same_places_at_any_zoom(zoom: float, mirrored: bool) -> None:
    sample = coordinates(60, 80)
    step = (1 / zoom, 1 / zoom)
    view = View(size=(32, 32), step=step, origin=(6.0, 9.0), mirrored=mirrored, zoom=zoom)
    shown = show(sample, view, TASKS, IMAGENET)
    labelled = shown["semseg"] != 255
    row = shown["image"][1] * 0.224 * 255 + 0.456 * 255
    column = shown["image"][0] * 0.229 * 255 + 0.485 * 255
    assert np.abs(row - shown["semseg"])[labelled].max() <= 1
    assert np.abs(column + 1 - shown["depth"][0] * zoom)[labelled].max() <= 1


def test_outside_the_picture_nothing_is_labelled_and_the_image_is_zero() -> None:
    sample = coordinates(20, 24)
    view = View(size=(40, 48), step=(1.0, 1.0), origin=(-5.0, -3.0), mirrored=True)
    shown = show(sample, view, TASKS, IMAGENET)
    inside = np.zeros((40, 48), bool)
    inside[5:25, 48 - 3 - 24 : 48 - 3] = True
    assert not shown["image"][:, ~inside].any()
    for name, task in TASKS.items():
        assert (shown[name][..., ~inside] == task.unlabelled).all(), name
        assert (shown[name][..., inside] != task.unlabelled).any(), name


def test_depth_shrinks_as_things_grow() -> None:
    sample = coordinates(40, 40)
    view = View(size=(8, 8), step=(0.5, 0.5), origin=(20, 20), zoom=2.0)
    assert show(sample, view, TASKS, IMAGENET)["depth"].max() == pytest.approx(
        (24 + 1) / 2, abs=0.51
    )


def test_a_missing_label_is_ignored_everywhere() -> None:
    sample = {"image": coordinates(20, 20)["image"]}
    shown = show(sample, whole((20, 20), (10, 10)), TASKS, IMAGENET)
    for name, task in TASKS.items():
        assert (shown[name] == task.unlabelled).all(), name
        assert shown[name].shape[-2:] == (10, 10)


def test_augmentation_is_decided_by_its_generator_alone() -> None:
    sample = coordinates(50, 60)
    first = augment(sample, TASKS, (24, 24), (0.5, 0.5), np.random.default_rng(5), IMAGENET)
    again = augment(sample, TASKS, (24, 24), (0.5, 0.5), np.random.default_rng(5), IMAGENET)
    other = augment(sample, TASKS, (24, 24), (0.5, 0.5), np.random.default_rng(6), IMAGENET)
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert not np.array_equal(first["image"], other["image"])


def test_samples_are_not_changed_by_being_augmented() -> None:
    sample = coordinates(50, 60)
    copies = {k: v.copy() for k, v in sample.items()}
    for seed in range(5):
        augment(sample, TASKS, (24, 24), (1.0, 1.0), np.random.default_rng(seed), IMAGENET)
    assert all(np.array_equal(sample[k], copies[k]) for k in sample)


def test_crops_of_a_single_class_are_drawn_again() -> None:
    classes = np.zeros((100, 100), np.uint8)
    classes[60:, 60:] = 1
    size, scale = (40, 40), (1.0, 1.0)

    def balanced(view: View) -> bool:
        return is_balanced(view.take(classes, cv2.INTER_NEAREST)[view.inside(100, 100)])

    chosen = [
        random_view((100, 100), size, scale, np.random.default_rng(s), balanced) for s in range(200)
    ]
    free = [random_view((100, 100), size, scale, np.random.default_rng(s)) for s in range(200)]

    assert np.mean([balanced(v) for v in chosen]) > 2 * np.mean([balanced(v) for v in free])


def test_crops_stay_inside_a_picture_that_is_large_enough() -> None:
    for seed in range(100):
        view = random_view((100, 120), (40, 50), (1.0, 1.0), np.random.default_rng(seed))
        rows, columns = view.inside(100, 120)
        if view.zoom * 100 >= 40 and view.zoom * 120 >= 50:
            assert (rows.start, rows.stop, columns.start, columns.stop) == (0, 40, 0, 50)


def test_whole_view_agrees_with_area_of_the_picture() -> None:
    sample = coordinates(64, 64)
    shown = show(sample, whole((64, 64), (32, 32)), TASKS, IMAGENET)
    assert shown["semseg"][0, 0] in (0, 1)
    assert shown["semseg"][-1, 0] in (62, 63)


def test_colour_distortion_keeps_grey_grey_when_only_brightness_changes() -> None:
    grey = np.full((8, 8, 3), 100, np.uint8)
    for seed in range(30):
        spread = np.ptp(distort_colours(grey, np.random.default_rng(seed)).astype(int), axis=-1)
        assert spread.max() <= 1


def test_colour_distortion_changes_hue_as_opencv_does() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    changed = [distort_colours(image, np.random.default_rng(s)) for s in range(40)]
    hues = [cv2.cvtColor(c, cv2.COLOR_RGB2HSV)[..., 0] for c in changed]
    assert any(not np.array_equal(h, hues[0]) for h in hues)
