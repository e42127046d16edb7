"""`mtl data`: tells what is there, notices what is damaged, draws what can be looked at."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from mtlcli.errors import InputError, RunError
from mtlcli.inspect import browse, check, describe
from mtlcli.prepare import prepare


@pytest.fixture
def file(make_bundle: Callable[..., Path], tmp_path: Path) -> Path:
    """A prepared NYUD of 3 + 2 samples of 24x32."""
    out = tmp_path / "nyud.h5"
    return prepare("nyud", archive=make_bundle(tmp_path), out=out, workers=1, quiet=True)


def test_the_report_says_what_is_there_and_what_is_not(file: Path) -> None:
    said = describe(file, quiet=True)
    for part in (
        "atrc: NYUDv2",
        "listing_sha256",
        "24x32; trained on 425x560",
        "train: 3 samples (3 of 795: INCOMPLETE SET)",
        "val: 2 samples (2 of 654: INCOMPLETE SET)",
        "depth       3/3 samples, 100.0% of pixels",
        "floor mat",
    ):
        assert part in said


def test_counts_of_classes_and_ranges_are_those_of_the_samples(file: Path) -> None:
    said = describe(file, quiet=True)
    with h5py.File(file) as h5:
        labels, depth = h5["train/semseg"][:], h5["train/depth"][:]
    valid = labels != 255
    assert f"semseg      3/3 samples, {valid.mean():6.1%} of pixels" in said
    assert f"wall {np.mean(labels[valid] == 0):.1%}" in said
    assert f"{depth.min():g} .. {depth.max():g} m" in said


def test_absent_tasks_and_derived_labels_are_said(
    make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_bundle(tmp_path)
    for path in (root / "normals").iterdir():
        path.unlink()
    made = prepare("nyud", archive=root, out=tmp_path / "n.h5", workers=1, quiet=True)
    assert "absent    normals" in describe(made, quiet=True)


def test_a_sound_file_is_said_to_be_sound(file: Path) -> None:
    assert check(file, quiet=True) == f"{file}: 5 samples, every checksum holds."


def test_damage_is_found_and_named(file: Path) -> None:
    with h5py.File(file, "r+") as h5:
        h5["val/depth"][1, 3, 4] += 1
        h5["val/image"][1, 3, 4] += 1
    with pytest.raises(RunError, match=r"val sample '1001' \(image\) and 1 more.*--force"):
        check(file, quiet=True)


def test_the_contact_sheet_shows_every_task_of_both_splits(file: Path, tmp_path: Path) -> None:
    made = browse(file, tmp_path / "sheets" / "nyud.png", rows=4, width=64)
    sheet = np.asarray(Image.open(made))
    height = 24 + 4 * 48  # the header, and four strips of pictures twice as large
    assert sheet.shape == (height, 5 * 64, 3)
    with h5py.File(file) as h5:
        first = h5["train/image"][0]
    shrunk = sheet[24 : 24 + 20, :64].reshape(10, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - first[:10]).mean() < 30
    assert all(sheet[30:60, x : x + 64].std() > 5 for x in range(0, 320, 64))


def test_a_sheet_needs_the_name_of_a_picture(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a \.png or \.jpg file"):
        browse(file, tmp_path / "nyud.txt")


@pytest.mark.parametrize("work", [describe, check])
def test_a_missing_file_is_told(tmp_path: Path, work: Callable[[Path], str]) -> None:
    with pytest.raises(InputError, match=r"does not exist: run `mtl prepare nyud`"):
        work(tmp_path / "nyud.h5")
