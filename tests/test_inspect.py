"""`mtl data`: tells what is there, notices what is damaged, draws what can be looked at."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from PIL import Image

from mtlcli.data.hdf5 import read_info
from mtlcli.data.inspect import check, describe
from mtlcli.data.prepare import prepare
from mtlcli.data.reader import Reader
from mtlcli.drawing.browse import browse, sample_row
from mtlcli.drawing.grid import layout_of
from mtlcli.errors import InputError, RunError


@pytest.fixture
def file(make_bundle: Callable[..., Path], tmp_path: Path) -> Path:
    """A prepared NYUD of 3 + 2 samples of 24x32."""
    out = tmp_path / "nyud.h5"
    return prepare("nyud", archive=make_bundle(tmp_path), out=out, workers=1, quiet=True)


def test_the_report_says_what_is_there_and_what_is_not(file: Path) -> None:
    said = describe(file, quiet=True).text()
    for part in (
        "atrc: NYUDv2",
        "listing_sha256",
        "24x32; trained on 425x560",
        "train: 3 samples (3 of 795: INCOMPLETE SET)",
        "val: 2 samples (2 of 654: INCOMPLETE SET)",
        "depth       3/3 samples, 100.0% of pixels labelled",
        "floor mat",
    ):
        assert part in said


def test_counts_of_classes_and_ranges_are_those_of_the_samples(file: Path) -> None:
    said = describe(file, quiet=True).text()
    with h5py.File(file) as h5:
        labels, depth = h5["train/semseg"][:], h5["train/depth"][:]
    valid = labels != 255
    assert f"semseg      3/3 samples, {valid.mean():6.1%} of pixels labelled" in said
    assert f"wall {np.mean(labels[valid] == 0):.1%}" in said
    assert f"{depth.min():g} .. {depth.max():g} m" in said


def test_the_record_holds_the_same_numbers(file: Path, mtl) -> None:
    record = json.loads(mtl("data", file, "--json", "--check", "--quiet").out)
    assert record["checked"]
    assert record["sheet"] is None
    assert record["tasks"]["depth"] == {"from": "atrc bundle, depth/", "derived": False}
    train = record["splits"]["train"]
    assert (train["samples"], train["expected"], train["values_of_one_in"]) == (3, 795, 1)
    with h5py.File(file) as h5:
        labels, depth = h5["train/semseg"][:], h5["train/depth"][:]
        edges = h5["train/edge"][:]
    valid = labels != 255
    semseg = train["holds"]["semseg"]
    assert semseg["labelled"] == pytest.approx(valid.mean())
    assert semseg["classes"]["wall"] == pytest.approx(np.mean(labels[valid] == 0))
    assert sum(semseg["classes"].values()) == pytest.approx(1)
    assert train["holds"]["depth"]["high"] == pytest.approx(depth.max())
    assert train["holds"]["edge"]["not_zero"] == pytest.approx(np.mean(edges > 0))


def test_absent_tasks_and_derived_labels_are_said(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_bundle(tmp_path)
    for path in (root / "normals").iterdir():
        path.unlink()
    made = prepare("nyud", archive=root, out=tmp_path / "n.h5", workers=1, quiet=True)
    assert "absent    normals" in describe(made, quiet=True).text()


def test_a_sound_file_is_said_to_be_sound(file: Path) -> None:
    assert check(file, quiet=True) == f"{file}: 5 samples, every checksum holds."


def test_damage_is_found_and_named(file: Path) -> None:
    with h5py.File(file, "r+") as h5:
        h5["val/depth"][1, 3, 4] += 1
        h5["val/image"][1, 3, 4] += 1
    with pytest.raises(RunError, match=r"val sample '1001' \(image\) and 1 more.*--force"):
        check(file, quiet=True)


def test_the_contact_sheet_shows_every_task_of_both_splits(file: Path, tmp_path: Path) -> None:
    made = browse(file, tmp_path / "sheets" / "nyud.png", rows=4)
    sheet = np.asarray(Image.open(made))
    rows = [
        sample_row(Reader(file, split), index) for split in ("train", "val") for index in (0, 1)
    ]
    layout = layout_of(rows, ["any"])
    assert sheet.shape == (*layout.size, 3)
    height, width = layout.tile
    for column, tile in enumerate(rows[0]):
        assert tile is not None
        x, y = layout.corner(0, column)
        shown = cv2.resize(sheet[y : y + height, x : x + width], tile.picture.shape[1::-1])
        assert np.abs(shown.astype(int) - tile.picture).mean() < 40
        assert sheet[y + height + 8 : y + height + 30, x : x + width].std() > 0  # its key
    with h5py.File(file) as h5:
        assert (rows[0][0].picture == h5["train/image"][0]).all()
        labels = h5["train/semseg"][0]
    palette = np.array(read_info(file).palettes["semseg"])
    assert (rows[0][1].picture[labels < 40] == palette[labels[labels < 40]]).all()


def test_a_sheet_needs_the_name_of_a_picture(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a \.png or \.jpg file"):
        browse(file, tmp_path / "nyud.txt")


@pytest.mark.parametrize("work", [describe, check])
def test_a_missing_file_is_told(tmp_path: Path, work: Callable[[Path], str]) -> None:
    with pytest.raises(InputError, match=r"does not exist: run `mtl prepare nyud`"):
        work(tmp_path / "nyud.h5")
