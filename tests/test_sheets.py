"""What a sheet of tiles is made of: keys, rows and columns, error maps, names."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtlcli import lookup
from mtlcli.drawing.grid import Tile, draw_grid, draw_sheet, in_columns, in_two
from mtlcli.drawing.legend import FONT, draw_key, in_lines, key_height
from mtlcli.drawing.networks import load_networks
from mtlcli.drawing.scales import ranges
from mtlcli.drawing.tiles import image_tile
from mtlcli.maps import _colours as colors
from mtlcli.maps import _map as keys
from mtlcli.maps import boundaries, classes, depth, directions
from mtlcli.runs import checkpoint

PALETTE = ((10, 20, 30), (200, 0, 0), (0, 200, 0))


def has_colour(sheet: np.ndarray, colour: tuple[int, int, int], pixels: int = 100) -> bool:
    return int((sheet == colour).all(axis=-1).sum()) >= pixels


def test_the_legend_names_the_classes_in_sight_most_frequent_first() -> None:
    drawn = np.zeros((50, 100), np.uint8)
    drawn[:, :60] = 2
    drawn[0, 0] = 1  # a speck
    drawn[40:, 90:] = 255
    key = classes.key(drawn, {"names": ("wall", "floor", "bed"), "palette": PALETTE})
    assert key.entries == [("bed", PALETTE[2]), ("wall", PALETTE[0]), ("no label", (0, 0, 0))]


def test_classes_are_shown_by_names_a_person_says_and_kept_by_their_own(home: Path) -> None:
    key = classes.key(np.zeros((4, 4), np.uint8), {"names": ("otherprop",), "palette": PALETTE})
    assert [name for name, _ in key.entries] == ["other object"]
    shown = {}
    for dataset in ("nyud", "pascal", "rooms"):
        for names in lookup.load("datasets", dataset).DATASET.classes.values():
            for i, name in enumerate(names):
                seen = classes.key(np.full((2, 2), i, np.uint8), {"names": names})
                shown[name] = seen.entries[0][0]
                assert shown[name] == classes.spell(name)
            assert len({classes.spell(name) for name in names}) == len(names)
    assert set(classes.SPOKEN) <= set(shown), "a name that no dataset has"
    for said in shown.values():
        jargon = re.fullmatch(r"other\w+|[ul](arm|leg)|\w*(table|plant|monitor)", said)
        assert not jargon or said in ("table",), said


def test_what_does_not_fit_into_a_legend_is_counted() -> None:
    many = keys.Swatches(entries=[(f"a long name {i}", (1, 2, 3)) for i in range(40)])
    lines = in_lines(many, 300)
    shown = [name for line in lines for name, colour in line if colour]
    assert len(lines) == 3
    assert lines[-1][-1] == (f"+{40 - len(shown)} more", None)


def test_the_ball_has_the_colours_of_floor_and_wall() -> None:
    picture, cover = directions.draw_ball(61)
    frontal = directions.draw(np.float32([0, 0, 1]).reshape(3, 1, 1), {})[0, 0]
    floor = directions.draw(np.float32([0, 1, 0]).reshape(3, 1, 1), {})[0, 0]
    np.testing.assert_allclose(picture[30, 30], frontal, atol=3)
    np.testing.assert_allclose(picture[0, 30].astype(int), floor, atol=35)
    assert cover[0, 0] == 0
    assert cover[30, 30] == 1


def test_an_end_of_the_depth_scale_says_when_much_lies_beyond_it() -> None:
    metres = np.linspace(1, 5, 1000, dtype=np.float32).reshape(1, 20, 50)
    ends = [
        (depth.key(metres, reach).low, depth.key(metres, reach).high)
        for reach in ({"near": 2.0, "far": 6.0}, {"near": 0.5, "far": 4.0}, {"near": 1, "far": 5})
    ]
    assert ends == [("<2.0 m", "6.0 m"), ("0.5 m", ">4.0 m"), ("1.0 m", "5.0 m")]
    unmeasured = np.where(metres < 2, 0, metres)
    assert depth.key(unmeasured, {"near": 2.0, "far": 5.0}).low == "2.0 m"


def test_a_key_stays_within_its_column() -> None:
    for key in (keys.Ball(text="direction, as on a ball in view"),
                keys.Scale(colours=colors.inferno(), low="<10.5 m", high=">88.8 m")):  # fmt: skip
        sheet = Image.new("RGB", (600, 200), "white")
        draw_key(sheet, key, "a note", (0, 0), 240)
        inked = np.asarray(sheet).min(axis=(0, 2)) < 255
        assert inked[:240].any()
        assert not inked[242:].any()
        below = np.asarray(sheet).min(axis=(1, 2)) < 255
        assert not below[key_height(key, "a note", 240) :].any()


@pytest.mark.parametrize("key", [None, keys.Ball(text="direction")], ids=["alone", "beside a ball"])
def test_a_note_is_wrapped_and_stays_within_its_column(key: keys.Key | None) -> None:
    width, note = 240, "The network has seen rooms of flats, offices and shops only."
    high = key_height(key, note, width)
    sheet = Image.new("RGB", (2 * width, 2 * high), (255, 255, 255))
    draw_key(sheet, key, note, (0, 0), width)
    drawn = (np.asarray(sheet) != 255).any(-1)
    assert drawn[:high, :width].any()
    assert not drawn[:, width:].any()
    assert not drawn[high:].any()
    assert high > key_height(key, "The network", width)


def test_a_sheet_says_what_its_network_has_seen(home: Path, save_network: Callable) -> None:
    path = save_network(home / "weights" / "run" / "last.pt")
    trained = checkpoint.load(path, torch.device("cpu"))
    image = np.zeros((40, 30, 3), np.uint8)
    assert image_tile(image, trained, trained).note.count("rooms of flats") == 1
    other = replace(trained, config=replace(trained.config, dataset="rooms"))
    assert "flats, offices and shops and rendered rooms" in image_tile(image, trained, other).note
    own = replace(trained, config=replace(trained.config, dataset="mine"))
    assert image_tile(image, own).note == ""


def test_long_names_of_rows_lose_their_middle_only() -> None:
    name = "rooms_resnet18_half_demt_itsa_lr_0.001"
    assert in_two(name, 1000) == [name]
    assert "".join(in_two(name, 200)) == name
    first, second = in_two(name, 90)
    assert name.startswith(first)
    assert second.startswith("…")
    assert name.endswith(second[1:])
    assert all(FONT.text().getlength(line) <= 90 for line in (first, second))


def test_runs_are_named_by_their_folders_dots_and_all(folder: Path, save_network) -> None:
    files = [save_network(folder / f"run_lr_{rate}" / "last.pt") for rate in ("0.01", "0.001")]
    given = [files[0].parent, files[1]]
    assert list(load_networks(given, (), "cpu").trained) == ["run_lr_0.01", "run_lr_0.001"]
    twice = load_networks([files[0], files[0].parent], (), "cpu")
    assert list(twice.trained) == ["run_lr_0.01/last (1)", "run_lr_0.01/last (2)"]


def test_the_depth_scale_is_in_metres_and_can_be_shared() -> None:
    metres = np.linspace(1, 5, 1000, dtype=np.float32).reshape(1, 20, 50)
    assert (depth.key(metres, {}).low, depth.key(metres, {}).high) == ("1.1 m", "4.9 m")
    assert depth.key(metres, {"near": 0.5, "far": 9.0}).high == "9.0 m"


@pytest.mark.parametrize("factor", [0.02, 0.3, 0.8, 1.0, 1.5, 2.5, 40.0])
def test_however_far_off_a_prediction_is_it_and_the_truth_can_be_read(factor: float) -> None:
    truth = np.linspace(1, 5, 1000, dtype=np.float32).reshape(1, 20, 50)
    predicted = truth * np.float32(factor)
    shared, (own,) = ranges(depth.MAP, truth, [predicted])
    for metres, reach in ((truth, shared), (predicted, own)):
        seen = np.unique(depth.draw(metres, reach).reshape(-1, 3), axis=0)
        assert len(seen) > 60
        key = depth.key(metres, reach)
        assert "<" not in key.low
        assert ">" not in key.high
    assert (own == shared) == (0.3 <= factor < 2)


def test_predictions_that_are_near_share_the_range_of_the_truth_and_one_that_is_off_does_not() -> (
    None
):
    truth = np.linspace(1, 5, 1000, dtype=np.float32).reshape(1, 20, 50)
    shared, (first, second, off) = ranges(depth.MAP, truth, [truth + 1, truth - 0.5, truth * 30])
    assert first == second == shared
    assert shared["near"] == pytest.approx(depth.scale(truth - 0.5)["near"])
    assert shared["far"] == pytest.approx(depth.scale(truth + 1)["far"])
    assert off == depth.scale(truth * 30)


def test_truth_and_prediction_of_a_sample_share_the_colour_map(base: Path, mtl: Callable) -> None:
    sheets = {}
    for name in ("inferno", "grey"):
        line = ("visualize", "--dataset", "rooms", "--tasks", "depth", "--checkpoint", base)
        answer = mtl(*line, "--colormap", name, "--out", name, "--quiet")
        assert answer.code == 0, answer.err
        with Image.open(f"{name}/rooms_val_0.png") as sheet:
            sheets[name] = np.asarray(sheet).astype(int)
    row = len(sheets["grey"]) // 3
    coloured = [np.ptp(sheets["grey"][i * row :][:row, -300:], axis=-1).max() for i in range(2)]
    assert max(coloured) < 20, "truth, and prediction"
    assert np.ptp(sheets["inferno"][:row, -300:], axis=-1).max() > 100


def test_a_grid_is_filled_and_rows_align() -> None:
    tile = Tile(title="t", picture=np.full((30, 40, 3), 90, np.uint8))
    assert [len(row) for row in in_columns([tile] * 7)] == [4, 3]
    assert [len(row) for row in in_columns([tile] * 5)] == [3, 2]
    square = Tile(title="t", picture=np.zeros((40, 40, 3), np.uint8))
    assert [len(row) for row in in_columns([square] * 5)] == [3, 2]
    grid, rows = draw_grid([tile] * 4), draw_sheet([[tile, None], [None, tile]], ["one", "two"])
    assert has_colour(grid, (90, 90, 90), 4 * 336 * 448)
    assert has_colour(rows, (90, 90, 90), 2 * 336 * 448)
    assert not (np.array(grid.shape[:2]) % 2).any()


def test_error_maps_tell_right_from_wrong() -> None:
    truth = np.array([[0, 1, 255]], np.uint8)
    made = classes.error(np.array([[0, 2, 1]], np.uint8), truth, {})
    assert made.picture[0].tolist() == [list(classes.RIGHT), list(classes.WRONG), [0, 0, 0]]
    assert made.summary == "50% of pixels right"
    metres = np.float32([[[2, 3, 0]]])
    assert depth.error(metres + 0.5, metres, {}).summary == "RMSE 0.50 m"
    assert not depth.error(metres, metres, {}).picture[0, 2].any()
    up, left = np.float32([0, 1, 0]).reshape(3, 1, 1), np.float32([1, 0, 0]).reshape(3, 1, 1)
    assert directions.error(up, left, {}).summary == "mean error 90.0°"


def test_boundaries_are_found_missed_or_invented() -> None:
    truth = np.zeros((1, 60, 80), np.float32)
    truth[0, 20] = 1
    claim = np.zeros_like(truth)
    claim[0, 45] = 0.8
    half = np.maximum(claim, 0.9 * truth)
    perfect = boundaries.error(truth, truth, {"max_dist": 0.011})
    assert float(perfect.summary.split()[1]) > 0.98
    assert not has_colour(perfect.picture, boundaries.MISSED, 1)
    wrong = boundaries.error(claim, truth, {"max_dist": 0.011})
    assert has_colour(wrong.picture, boundaries.MISSED)
    both = boundaries.error(half, truth, {"max_dist": 0.011})
    assert has_colour(both.picture, boundaries.HIT)
    assert boundaries.error(claim * 0, truth * 0, {}).summary.startswith("F 0.00")
