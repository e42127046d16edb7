"""The augmented sample shows image and labels of the same places, and marks what lies outside."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mtlcli import lookup
from mtlcli import tasks as known_tasks
from mtlcli.data import augment as augmenting
from mtlcli.data.augment import (
    View,
    augment,
    distort_colours,
    is_balanced,
    place,
    random_view,
    show,
)
from mtlcli.data.batches import WholePictures
from mtlcli.data.images import normalise, to_resolution
from mtlcli.data.moments import IMAGENET
from mtlcli.data.reader import Reader
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
    view = View(size=(10, 10), step=(2.0, 2.0), origin=(0.5, 0.5))
    shown = show(sample, view, TASKS, IMAGENET)
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


@pytest.mark.parametrize("zooms", [None, (0.8, 1.25), (1.0, 1.0)])
def test_scales_fill_the_range_that_was_asked_for(zooms: tuple[float, float] | None) -> None:
    least, most = zooms or (0.5, 2.0)
    drawn = [
        random_view((9, 9), (4, 4), (1.0, 1.0), np.random.default_rng(seed), zooms=zooms).zoom
        for seed in range(300)
    ]
    assert least <= min(drawn) <= max(drawn) <= most
    np.testing.assert_allclose([min(drawn), max(drawn)], [least, most], atol=0.02 * most)


@pytest.mark.parametrize("resolution", [(1.0, 1.0), (0.5, 0.75)])
def test_a_crop_is_cut_out_of_the_resized_picture(resolution: tuple[float, float]) -> None:
    """Pixel k of a picture enlarged f times shows its place (k + 1/2) / f - 1/2; a crop shows whole
    k, one after the other (backwards if mirrored).
    """
    ramps = np.mgrid[:60, :80].astype(np.float32)
    for seed in range(20):
        view = random_view((60, 80), (24, 28), resolution, np.random.default_rng(seed))
        rows, columns = (view.take(ramp, cv2.INTER_LINEAR) for ramp in ramps)
        for read, scale, length in (
            (rows[:, 0], resolution[0], 60),
            (columns[0], resolution[1], 80),
        ):
            inside = (read > 0) & (read < length - 1)
            place = (read[inside].astype(float) + 0.5) * scale * view.zoom - 0.5
            if view.mirrored and length == 80:
                place = place[::-1]
            assert np.abs(place - place.round()).max() < 0.06, "1/64 pixel is OpenCV's rounding"
            assert (np.diff(place.round()) == 1).all()


def test_a_crop_begins_at_every_place_at_which_it_fits() -> None:
    rng = np.random.default_rng(0)
    assert {place(10, 8, False, rng) for _ in range(100)} == {0, 1, 2}
    assert {place(10, 10, backwards, rng) for backwards in (False, True)} == {0}


def test_the_rim_of_a_picture_is_not_mixed_with_what_lies_outside() -> None:
    white = np.full((20, 30, 3), 255, np.uint8)
    for seed in range(10):
        view = random_view((20, 30), (64, 64), (1.0, 1.0), np.random.default_rng(seed))
        rows, columns = view.inside(20, 30)
        shown = show({"image": white}, view, {}, IMAGENET)["image"]
        assert np.ptp(shown[:, rows, columns], axis=(1, 2)).max() == 0
        assert not shown[:, : rows.start].any()


def test_only_what_lies_inside_the_picture_counts_for_the_balance_of_a_crop(monkeypatch) -> None:
    sample, seen = coordinates(20, 24), []
    monkeypatch.setattr(augmenting, "SCALES", (1.0, 1.0))
    monkeypatch.setattr(augmenting, "is_balanced", lambda classes: bool(seen.append(classes.shape)))
    augment(sample, TASKS, (64, 16), (1, 1), np.random.default_rng(0), IMAGENET, ["semseg"])
    assert seen == [(20, 16)] * 10


def test_evaluation_averages_where_it_shrinks_and_interpolates_where_it_enlarges() -> None:
    stripes = np.zeros((4, 6, 3), np.uint8)
    stripes[::2] = 200
    assert (to_resolution(stripes, (0.5, 1)) == 100).all()
    larger = to_resolution(stripes, (2, 1))
    assert larger.shape == (8, 6, 3)
    assert larger[:, 0, 0].tolist() == [200, 150, 50, 50, 150, 150, 50, 0]
    assert to_resolution(stripes, (0.7, 0.25)).shape == (3, 2, 3), "rounded: 2.8 and 1.5"


@pytest.mark.parametrize("cells", [(4, 1), (1, 4), (4, 2), (2, 3), (1, 1)])
def test_evaluation_shrinks_to_the_means_of_cells(cells: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)
    rows, columns = 24 // cells[0], 36 // cells[1]
    means = picture.reshape(rows, cells[0], columns, cells[1], 3).mean((1, 3))
    found = to_resolution(picture, (1 / cells[0], 1 / cells[1]))
    assert np.abs(found - means).max() <= 0.51, "no more than rounding"


@pytest.mark.parametrize("taller", [True, False])
def test_an_axis_that_shrinks_is_averaged_beside_one_that_grows(taller: bool) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    pixels = picture if taller else picture.transpose(1, 0, 2)
    found = to_resolution(np.ascontiguousarray(pixels), (2, 0.25) if taller else (0.25, 2))
    means = picture.reshape(8, 3, 4, 3).mean(2)
    between = np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7)  # rows of 8
    above, share = np.floor(between).astype(int), (between % 1)[:, None, None]
    expected = (1 - share) * means[above] + share * means[np.minimum(above + 1, 7)]
    assert np.abs(found - (expected if taller else expected.transpose(1, 0, 2))).max() <= 1.01


def test_whole_pictures_are_at_the_working_resolution_and_their_labels_as_stored(
    rooms_file: Path,
) -> None:
    reader = Reader(rooms_file, "val")
    tasks = known_tasks.named(["semseg", "depth"])
    stored, found = reader[1], WholePictures(reader, tasks, (0.5, 0.25), moments=IMAGENET)[1]
    means = stored["image"].reshape(24, 2, 16, 4, 3).mean((1, 3))
    (mean, deviation) = (np.array(each)[:, None, None] for each in IMAGENET)
    levels = (found["image"] * deviation + mean) * 255
    assert np.abs(levels - means.transpose(2, 0, 1)).max() <= 0.51
    assert found["size"].tolist() == [48, 64]
    np.testing.assert_array_equal(found["semseg"], stored["semseg"])
    np.testing.assert_array_equal(found["depth"][0], stored["depth"])


def test_the_pictures_of_training_change_their_colours_as_ssd_has_it() -> None:
    """A grey picture: as bright as it was in a quarter of all crops, else up to 34 and 198."""
    sample = {"image": np.full((40, 40, 3), 100, np.uint8)}
    seen = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        image = augment(sample, {}, (8, 8), (1, 1), rng, IMAGENET)["image"]
        seen.append(round(float((image[0, 4, 4] * 0.229 + 0.485) * 255)))
    assert 34 <= min(seen) < 50
    assert 165 < max(seen) <= 198
    assert np.mean(np.array(seen) == 100) == pytest.approx(0.25, abs=0.07)


def test_the_pictures_of_training_are_interpolated_between_pixels(monkeypatch) -> None:
    """A ramp of 4 a column, whose value is a line in the place that a crop shows."""
    ramp = np.broadcast_to((4 * np.arange(60))[None, :, None], (50, 60, 3)).astype(np.uint8)
    monkeypatch.setattr(augmenting, "distort_colours", lambda image, rng: image)
    for seed in range(10):
        view = random_view((50, 60), (24, 24), (1, 1), np.random.default_rng(seed))
        shown = augment(
            {"image": ramp}, {}, (24, 24), (1, 1), np.random.default_rng(seed), IMAGENET
        )
        along = np.arange(24)[::-1] if view.mirrored else np.arange(24)
        place = view.origin[1] + view.step[1] * along
        inside = (place > 0) & (place < 59)
        values = (shown["image"][0, 12] * 0.229 + 0.485) * 255
        assert np.abs(values - 4 * place)[inside].max() < 0.75, "1/32 pixel and rounding"


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
