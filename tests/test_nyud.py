"""NYU Depth v2: every layout gives the labels its source has."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from mtlcli.data.archive import open_archive
from mtlcli.data.prepare import prepare
from mtlcli.data.reader import Reader
from mtlcli.datasets import _nyud_official, nyud
from mtlcli.datasets._nyud_tables import class_of_label, split_rows
from mtlcli.errors import InputError

Bundle = Callable[..., Path]


def read_plan(path: Path, work: Path, **options: str) -> tuple[nyud.Plan, dict[str, np.ndarray]]:
    """The plan of an archive and its first training sample."""
    plan = nyud.plan(open_archive(path, work), **options)
    return plan, plan.read("train", 0)


def test_atrc_keeps_every_value(make_bundle: Bundle, tmp_path: Path) -> None:
    root = make_bundle(tmp_path)
    plan, sample = read_plan(root, tmp_path)
    label = np.asarray(Image.open(root / "segmentation/0000.png")).astype(int)
    assert plan.layout == "atrc"
    assert plan.ids == {"train": ("0000", "0001", "0002"), "val": ("1000", "1001")}
    np.testing.assert_array_equal(sample["image"], Image.open(root / "images/0000.png"))
    np.testing.assert_array_equal(sample["semseg"], np.where(label == 0, 255, label - 1))
    np.testing.assert_array_equal(sample["depth"], np.load(root / "depth/0000.npy"))
    np.testing.assert_array_equal(sample["normals"], Image.open(root / "normals/0000.png"))
    np.testing.assert_array_equal(sample["edge"], Image.open(root / "edge/0000.png"))


def test_mti_keeps_vectors_and_codes_boundaries(make_bundle: Bundle, tmp_path: Path) -> None:
    root = make_bundle(tmp_path, "mti")
    plan, sample = read_plan(root, tmp_path)
    assert (plan.layout, plan.vector_normals) == ("mti", True)
    np.testing.assert_array_equal(sample["image"], Image.open(root / "images/0000.jpg"))
    np.testing.assert_array_equal(sample["normals"], np.load(root / "normals/0000.npy"))
    np.testing.assert_array_equal(sample["edge"], 255 * np.load(root / "edge/0000.npy"))


def test_the_third_bundle_is_told_from_the_others(make_bundle: Bundle, tmp_path: Path) -> None:
    root = make_bundle(tmp_path, "astmt")
    plan, sample = read_plan(root, tmp_path)
    label = loadmat(root / "segmentation/0000.mat")["segmentation"].astype(int)
    assert plan.layout == "astmt"
    np.testing.assert_array_equal(sample["semseg"], np.where(label == 0, 255, label - 1))
    np.testing.assert_array_equal(sample["depth"], loadmat(root / "depth/0000.mat")["depth"])


def test_full_frames_are_cropped_as_asked(make_bundle: Bundle, tmp_path: Path) -> None:
    root = make_bundle(tmp_path, "mti", train=1, val=1, shape=(480, 640))
    _, whole = read_plan(root, tmp_path)
    plan, part = read_plan(root, tmp_path, geometry="425x560")
    assert plan.shape == (425, 560)
    for key, array in part.items():
        np.testing.assert_array_equal(array, whole[key][45:470, 40:600])


def test_names_of_a_list_may_have_spaces(make_bundle: Bundle, tmp_path: Path) -> None:
    root = make_bundle(tmp_path)
    for path in [*root.rglob("0000.*")]:
        path.rename(path.with_stem("a room"))
    lists = root / "gt_sets/train.txt"
    lists.write_text(lists.read_text().replace("0000", "a room"))
    plan, _ = read_plan(root, tmp_path)
    assert plan.ids["train"] == ("a room", "0001", "0002")


def test_a_missing_task_is_left_out(make_bundle: Bundle, tmp_path: Path) -> None:
    root = make_bundle(tmp_path)
    for file in (root / "normals").iterdir():
        file.unlink()
    plan, sample = read_plan(root, tmp_path)
    assert plan.tasks == ("semseg", "depth", "edge")
    assert "normals" not in sample


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda r: (r / "gt_sets/train.txt").unlink(), "gt_sets/train.txt"),
        (lambda r: (r / "depth/0001.npy").unlink(), "depth/0001.npy"),
        (lambda r: (r / "images").rename(r / "pictures"), "none of the layouts"),
        (lambda r: [f.unlink() for f in r.rglob("*.*")], "no known NYUD archive"),
    ],
)
def test_an_incomplete_archive_is_named(
    make_bundle: Bundle, tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    root = make_bundle(tmp_path)
    damage(root)
    with pytest.raises(InputError, match=said):
        read_plan(root, tmp_path)


@pytest.mark.parametrize(
    ("member", "content", "said"),
    [
        ("segmentation/0000.png", np.full((24, 32), 57, np.uint8), "label 57 is outside 0 .. 40"),
        ("depth/0000.npy", np.full((24, 32), np.nan, np.float32), "depth in metres nan"),
        ("depth/0000.npy", np.full((24, 32), 2500, np.float32), "depth in metres 2500"),
        ("segmentation/0000.png", np.zeros((24, 32, 3), np.uint8), "3 channels"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_member(
    make_bundle: Bundle, tmp_path: Path, member: str, content: np.ndarray, said: str
) -> None:
    root = make_bundle(tmp_path)
    path = root / member
    np.save(path, content) if path.suffix == ".npy" else Image.fromarray(content).save(path)
    with pytest.raises(InputError, match=f"{member}.*{said}"):
        read_plan(root, tmp_path)


@pytest.mark.parametrize("member", ["images/0000.png", "normals/0000.png", "depth/0000.npy"])
def test_a_cut_member_is_named(make_bundle: Bundle, tmp_path: Path, member: str) -> None:
    root = make_bundle(tmp_path)
    data = (root / member).read_bytes()
    (root / member).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=member):
        read_plan(root, tmp_path)


def test_a_flipped_bit_in_a_picture_is_noticed(make_bundle: Bundle, tmp_path: Path) -> None:
    root = make_bundle(tmp_path)
    data = bytearray((root / "images/0000.png").read_bytes())
    data[len(data) // 2] ^= 1
    (root / "images/0000.png").write_bytes(data)
    with pytest.raises(InputError, match=r"images/0000\.png: has a damaged chunk"):
        read_plan(root, tmp_path)


def test_the_split_is_the_published_one() -> None:
    rows = split_rows()
    assert (len(rows["train"]), len(rows["val"])) == (795, 654)
    assert list(rows["train"][:7] + 1) == [3, 4, 5, 6, 7, 8, 10]
    assert list(rows["val"][:4] + 1) == [1, 2, 9, 14]
    assert sorted([*rows["train"], *rows["val"]]) == list(range(1449))


SAME = {  # of the 894 names those that are names of the 40 classes, and their numbers
    "wall": 21, "floor": 11, "cabinet": 3, "bed": 157, "chair": 5, "sofa": 83, "table": 19,
    "door": 28, "window": 59, "bookshelf": 88, "picture": 64, "counter": 7, "blinds": 80,
    "desk": 36, "shelves": 42, "curtain": 89, "dresser": 169, "pillow": 119, "mirror": 122,
    "floor mat": 143, "clothes": 141, "ceiling": 4, "books": 85, "refridgerator": 17,
    "television": 172, "paper": 15, "towel": 135, "shower curtain": 123, "box": 26,
    "whiteboard": 45, "person": 331, "night stand": 158, "toilet": 124, "sink": 24, "lamp": 144,
    "bathtub": 136, "bag": 55,
}  # fmt: skip


def test_labels_map_to_the_forty_classes() -> None:
    table = class_of_label()
    assert table.shape == (895,)
    assert (table[0], table[1:].min(), table.max()) == (0, 1, 40)
    found = {name: nyud.NAMES[table[label] - 1] for name, label in SAME.items()}
    assert found == {name: name for name in SAME}
    assert set(nyud.NAMES) - SAME.keys() == {"otherstructure", "otherfurniture", "otherprop"}
    assert nyud.NAMES[37:] == ("otherstructure", "otherfurniture", "otherprop")


def test_boundaries_are_where_a_block_of_four_pixels_differs() -> None:
    regions = np.random.default_rng(0).integers(0, 2, (12, 17)) * 7
    expected = np.zeros(regions.shape, np.uint8)
    for y in range(11):
        for x in range(16):
            expected[y, x] = 255 * (len(np.unique(regions[y : y + 2, x : x + 2])) > 1)
    np.testing.assert_array_equal(_nyud_official.boundaries(regions), expected)


@pytest.mark.parametrize("direction", [(0, 0, 1), (0, 0.94, 0.34), (0.96, 0, 0.3), (-0.5, -0.3, 1)])
def test_normals_of_a_plane_are_its_direction(direction: tuple[float, float, float]) -> None:
    n = np.array(direction) / np.linalg.norm(direction)
    x, y = np.meshgrid(np.arange(640.0), np.arange(480.0))
    rays = np.stack([(x - 324.58245) / 518.857901, (y - 252.736167) / 519.469611, x * 0 + 1], -1)
    facing = rays @ n > 0.05
    depth = 2 / np.where(facing, rays @ n, 0.05)
    inside = np.zeros_like(facing)
    inside[8:-8, 8:-8] = facing[8:-8, 8:-8] & facing[16:, 8:-8] & facing[:-16, 8:-8]
    inside &= np.roll(facing, 8, 1) & np.roll(facing, -8, 1)
    cosine = (_nyud_official.normals(depth) @ n)[inside]
    assert inside.sum() > 10_000
    assert np.degrees(np.arccos(cosine.min().clip(-1, 1))) < 0.01
    codes = _nyud_official.normal_codes(depth, inside)
    assert np.abs(codes[inside] - (n + 1) * 127.5).max() < 0.52, "rounded, not cut"
    assert not codes[~inside].any()


def test_a_normal_is_fitted_on_seven_by_seven_pixels() -> None:
    depth = np.full((480, 640), 2.0)
    depth[:, 300:] = 3  # a second wall behind the first
    z = _nyud_official.normals(depth)[..., 2]
    assert np.flatnonzero((z < 0.999).any(axis=0)).tolist() == [*range(297, 303)]


def blocks(values: np.ndarray, shift: int = 0) -> np.ndarray:
    """Each value on 4x4 pixels, moved down by `shift`."""
    return np.roll(values.repeat(4, axis=1).repeat(4, axis=2), shift, axis=1)


def make_labelled(folder: Path, count: int = 3) -> dict[str, np.ndarray]:
    """A nyu_depth_v2_labeled.mat of noise in the official shapes, and its arrays in image order."""
    noise = np.random.default_rng(1)
    arrays = {
        "images": noise.integers(0, 256, (count, 480, 640, 3), np.uint8),
        "depths": noise.uniform(1, 9, (count, 480, 640)).astype(np.float32),
        "rawDepths": noise.integers(0, 2, (count, 480, 640)).astype(np.float32),
        "labels": blocks(noise.integers(0, 895, (count, 120, 160))).astype(np.uint16),
        "instances": blocks(noise.integers(0, 38, (count, 120, 160)), shift=2).astype(np.uint8),
    }
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
        for name, array in arrays.items():
            axes = (0, 3, 2, 1) if array.ndim == 4 else (0, 2, 1)
            file[name] = array.transpose(axes)
    savemat(folder / "splits.mat", {"trainNdxs": [[1], [3]], "testNdxs": [[2]]})
    return arrays


@pytest.mark.parametrize(
    ("geometry", "crop"),
    [("480x640", np.s_[:, :]), (None, np.s_[45:470, 40:600])],
)
def test_the_official_file_is_read_upright(
    tmp_path: Path, geometry: str | None, crop: tuple[slice, slice]
) -> None:
    arrays = make_labelled(tmp_path)
    out = tmp_path / "nyud.h5"
    mat = tmp_path / "nyu_depth_v2_labeled.mat"
    prepare("nyud", archive=mat, geometry=geometry, out=out, workers=1, quiet=True)
    reader = Reader(out, "train")
    assert reader.ids == ("0001", "0003")
    assert reader.info.derived == ("normals", "edge")
    sample, row = reader[1], 2
    classes = class_of_label()[arrays["labels"][row]].astype(int)
    np.testing.assert_array_equal(sample["image"], arrays["images"][row][crop])
    np.testing.assert_array_equal(sample["depth"], arrays["depths"][row][crop])
    np.testing.assert_array_equal(sample["semseg"], np.where(classes == 0, 255, classes - 1)[crop])
    things = arrays["labels"][row].astype(int) * 1000 + arrays["instances"][row]
    block = np.stack([things[y : y + 479, x : x + 639] for y in (0, 1) for x in (0, 1)])
    edge = np.pad(np.ptp(block, axis=0) > 0, ((0, 1), (0, 1)))[crop]
    np.testing.assert_array_equal(sample["edge"], 255 * edge)
    np.testing.assert_array_equal(
        sample["normals"].any(axis=-1), arrays["rawDepths"][row][crop] > 0
    )


def test_the_official_file_may_be_packed(tmp_path: Path) -> None:
    (tmp_path / "download").mkdir()
    make_labelled(tmp_path / "download")
    packed = Path(shutil.make_archive(str(tmp_path / "kaggle"), "zip", tmp_path / "download"))
    outs = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for out, archive in zip(outs, (packed, tmp_path / "download")):
        prepare("nyud", archive=archive, out=out, workers=1, quiet=True)
    for key, array in Reader(outs[0], "train")[1].items():
        np.testing.assert_array_equal(array, Reader(outs[1], "train")[1][key])


def test_the_official_file_needs_fitting_splits(tmp_path: Path) -> None:
    make_labelled(tmp_path)
    (tmp_path / "splits.mat").unlink()
    with pytest.raises(InputError, match=r"3 images and no splits\.mat"):
        read_plan(tmp_path, tmp_path)


@pytest.mark.parametrize("rows", [[[0], [3]], [[1], [4]]])
def test_splits_of_images_that_there_are_not_are_told(tmp_path: Path, rows: list) -> None:
    make_labelled(tmp_path)
    savemat(tmp_path / "splits.mat", {"trainNdxs": rows, "testNdxs": [[2]]})
    with pytest.raises(InputError, match=r"splits\.mat lists images outside 1 \.\. 3"):
        read_plan(tmp_path, tmp_path)


@pytest.mark.parametrize(("part", "most"), [("labels", 894), ("instances", 63)])
def test_the_part_of_an_official_image_that_cannot_be_is_told(
    tmp_path: Path, part: str, most: int
) -> None:
    make_labelled(tmp_path)
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "r+") as file:
        file[part][0, 5, 5] = most + 1
    said = rf"{part} of image 1: value {most + 1} is outside 0 \.\. {most}\."
    with pytest.raises(InputError, match=said):
        read_plan(tmp_path, tmp_path)


def test_a_cut_official_file_is_named(tmp_path: Path) -> None:
    make_labelled(tmp_path)
    mat = tmp_path / "nyu_depth_v2_labeled.mat"
    mat.write_bytes(mat.read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"nyu_depth_v2_labeled\.mat is cut short"):
        read_plan(tmp_path, tmp_path)


@pytest.mark.parametrize("geometry", ["480x640", "100x100"])
def test_an_impossible_geometry_is_refused(
    make_bundle: Bundle, tmp_path: Path, geometry: str
) -> None:
    with pytest.raises(InputError, match=geometry):
        read_plan(make_bundle(tmp_path), tmp_path, geometry=geometry)


WHOLE = bool(os.environ.get("MTL_REAL_DATA_ALL"))  # all 1449 images: minutes and gigabytes
SIZES = {"train": 795, "val": 654} if WHOLE else {"train": 6, "val": 3}


# the tool derives normals for a second per image; nothing here compares them
WITHOUT_NORMALS = """
import importlib.util, sys
import numpy as np
spec = importlib.util.spec_from_file_location("tree", sys.argv.pop(1))
tree = sys.modules["tree"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tree)
tree.normals_from = lambda depth: np.stack([0 * depth, 0 * depth, 0 * depth + 1], axis=-1)
tree.main()
"""


@pytest.fixture(scope="module")
def real_tree(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Lays real samples out in a layout of the field, once each."""
    made: dict[str, Path] = {}

    def make(layout: str) -> Path:
        if layout not in made:
            made[layout] = tmp_path_factory.mktemp(layout)
            tool = real_data.parent / "tools" / "make_nyud_tree.py"
            counts = [f"--{split}={n}" for split, n in SIZES.items()]
            options = [made[layout], f"--layout={layout}", *counts]
            subprocess.run([sys.executable, "-c", WITHOUT_NORMALS, tool, *options], check=True)
        return made[layout]

    return make


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("layout", "geometry"),
    [
        ("atrc", "425x560"),
        ("mti", "480x640"),
        ("mti", "425x560"),
        ("mat", "480x640"),
        ("mat", "425x560"),
    ],
)
def test_real_images_labels_and_depth_survive_bit_for_bit(
    real_data: Path, real_tree: Callable[[str], Path], tmp_path: Path, layout: str, geometry: str
) -> None:
    folder, source = real_tree(layout), real_data / "nyud"
    out = tmp_path / "nyud.h5"
    prepare("nyud", archive=folder, geometry=geometry, out=out, quiet=True)
    crop = np.s_[45:470, 40:600] if geometry == "425x560" else np.s_[:, :]
    lists = {s: (source / f"gt_sets/{s}.txt").read_text().split()[:n] for s, n in SIZES.items()}
    ordered = sorted([*lists["train"], *lists["val"]])
    for split, expected in lists.items():
        reader = Reader(out, split)
        numbered = [ordered[int(i) - 1] if layout == "mat" else i for i in reader.ids]
        assert sorted(numbered) == sorted(expected)
        for index, ident in enumerate(numbered):
            sample = reader[index]
            image = np.asarray(Image.open(source / f"images/{ident}.jpg"))
            label = np.asarray(Image.open(source / f"labels40/{ident}.png")).astype(int)
            levels = np.asarray(Image.open(source / f"depth8/{ident}.png")).astype(np.float32)
            metres = (levels + np.float32(0.5)) * np.float32(9.99547 / 255)
            np.testing.assert_array_equal(sample["image"], image[crop])
            np.testing.assert_array_equal(
                sample["semseg"], np.where(label == 0, 255, label - 1)[crop]
            )
            np.testing.assert_array_equal(sample["depth"], metres[crop])
    out.unlink()
