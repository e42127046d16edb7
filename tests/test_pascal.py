"""PASCAL-Context: the labels are those the field's loaders make, from bundle and official files."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat
from skimage.morphology import thin

from mtlcli.data.archive import open_archive
from mtlcli.data.prepare import prepare
from mtlcli.data.reader import Reader
from mtlcli.datasets import pascal
from mtlcli.datasets._pascal_labels import CONTEXT_IDS, WITH_NORMALS, boundaries, parts_of
from mtlcli.errors import InputError
from tests.pascal_bundle import (
    FOLDERS,
    LISTS,
    PERSON,
    SHAPES,
    box,
    labelmap_of,
    make_pascal,
    part_file,
    save,
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A small tree in the bundle's layout."""
    return make_pascal(tmp_path)


def prepared(archive: Path | list[Path], out: Path, split: str = "train") -> Reader:
    return Reader(prepare("pascal", archive=archive, out=out, workers=1, quiet=True), split)


def test_the_bundle_gives_all_five_tasks(bundle: Path, tmp_path: Path) -> None:
    reader = prepared(bundle, tmp_path / "p.h5")
    assert reader.ids == LISTS["train"]
    assert set(reader.info.tasks) == {"semseg", "human_parts", "sal", "normals", "edge"}
    assert reader.info.source == "bundle"
    assert reader.info.options["edge"]["positive_weight"] == 0.95


def test_images_are_the_jpegs_as_they_are(bundle: Path, tmp_path: Path) -> None:
    reader = prepared(bundle, tmp_path / "p.h5")
    for index, ident in enumerate(reader.ids):
        path = bundle / f"JPEGImages/{ident}.jpg"
        assert reader._raw("image", index).tobytes() == path.read_bytes()
        np.testing.assert_array_equal(reader[index]["image"], np.asarray(Image.open(path)))


def test_voc_masks_come_before_those_of_context(bundle: Path, tmp_path: Path) -> None:
    reader = prepared(bundle, tmp_path / "p.h5")
    voc = Image.open(bundle / "semseg/VOC12/2008_000001.png")
    context = Image.open(bundle / "semseg/pascal-context/2008_000003.png")
    np.testing.assert_array_equal(reader[0]["semseg"], voc)
    np.testing.assert_array_equal(reader[1]["semseg"], context)


def test_later_persons_cover_earlier_ones_and_animals_count_for_nothing(
    bundle: Path, tmp_path: Path
) -> None:
    reader, shape = prepared(bundle, tmp_path / "p.h5"), SHAPES["2008_000001"]
    expected = np.zeros(shape, np.uint8)
    expected[box(shape, 4, 4)] = 1
    expected[box(shape, 20, 4)] = 6
    expected[box(shape, 8, 8)] = 3
    np.testing.assert_array_equal(reader[0]["human_parts"], expected)
    assert "human_parts" not in reader[1]  # nobody there: no label at all


def test_boundaries_are_the_thinned_laplacian_of_opencv(bundle: Path, tmp_path: Path) -> None:
    reader = prepared(bundle, tmp_path / "p.h5")
    for index, ident in enumerate(reader.ids):
        laplacian = cv2.Laplacian(labelmap_of(bundle, ident).astype(np.float64), cv2.CV_64F)
        expected = thin(np.abs(laplacian) > 0)
        np.testing.assert_array_equal(reader[index]["edge"], 255 * expected.astype(np.uint8))
        assert 0.02 < expected.mean() < 0.5


def test_saliency_is_what_lies_above_one_half(bundle: Path, tmp_path: Path) -> None:
    reader = prepared(bundle, tmp_path / "p.h5")
    grey = np.asarray(Image.open(bundle / "sal_distill/2008_000001.png"))
    np.testing.assert_array_equal(reader[0]["sal"], (grey / 255.0 > 0.5).astype(np.uint8))


def test_normals_count_on_the_classes_they_are_valid_for(bundle: Path, tmp_path: Path) -> None:
    reader = prepared(bundle, tmp_path / "p.h5")
    codes = np.asarray(Image.open(bundle / "normals_distill/2008_000001.png"))
    valid = np.isin(labelmap_of(bundle, "2008_000001"), (9, 23, 284, 397))  # 5 is none
    assert 0 < valid.mean() < 1
    np.testing.assert_array_equal(reader[0]["normals"], np.where(valid[..., None], codes, 0))
    assert len(WITH_NORMALS) == 170


def officially(bundle: Path, folder: Path) -> list[Path]:
    """The same images as four official archives, VOC masks and parts included."""
    voc2010, voc2012 = folder / "a/VOCdevkit/VOC2010", folder / "b/VOCdevkit/VOC2012"
    context, parts = folder / "c/trainval", folder / "d/Annotations_Part"
    shutil.copytree(bundle / "JPEGImages", voc2010 / "JPEGImages")
    (voc2010 / "ImageSets/Main").mkdir(parents=True)
    for split in LISTS:
        shutil.copy(bundle / f"ImageSets/Context/{split}.txt", voc2010 / "ImageSets/Main")
    shutil.copytree(bundle / "JPEGImages", voc2012 / "JPEGImages")
    shutil.copytree(bundle / "semseg/VOC12", voc2012 / "SegmentationClass")
    shutil.copytree(bundle / "pascal-context/trainval", context)
    shutil.copytree(bundle / "human_parts", parts)
    formats = {"a": "tar", "b": "tar", "c": "gztar", "d": "gztar"}
    return [Path(shutil.make_archive(str(folder / k), f, folder / k)) for k, f in formats.items()]


def test_the_official_archives_give_what_can_be_had(bundle: Path, tmp_path: Path) -> None:
    ours = prepared(bundle, tmp_path / "bundle.h5")
    reader = prepared(officially(bundle, tmp_path), tmp_path / "official.h5")
    assert reader.info.tasks == ("semseg", "human_parts", "edge")
    assert reader.info.source == "official"
    assert reader.info.derived == ("semseg", "edge"), "no published files of these"
    for key in ("image", "semseg", "edge", "human_parts"):
        np.testing.assert_array_equal(reader[0][key], ours[0][key])
    expected = np.zeros(SHAPES["2008_000003"], np.uint8)  # no VOC mask: from the label map
    for index, ident in enumerate(CONTEXT_IDS):
        expected[labelmap_of(bundle, "2008_000003") == ident] = index + 1
    np.testing.assert_array_equal(reader[1]["semseg"], expected)


def test_a_folder_of_archives_serves_as_well(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "downloads"
    folder.mkdir()
    for path in officially(bundle, tmp_path):
        shutil.move(path, folder)
    assert prepared(folder, tmp_path / "p.h5").ids == LISTS["train"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda r: (r / "human_parts/2008_000002.mat").unlink(), "human_parts.*2008_000002"),
        (lambda r: (r / "ImageSets/Context/val.txt").unlink(), "ImageSets/Context/val.txt"),
        (lambda r: shutil.rmtree(r / "JPEGImages"), "no JPEGImages"),
        (lambda r: shutil.rmtree(r / "pascal-context"), r"trainval/2008_000001\.mat"),
        (lambda r: cut(r / "human_parts/2008_000003.mat"), r"human_parts/2008_000003\.mat"),
        (lambda r: cut(r / "JPEGImages/2008_000003.jpg"), "'2008_000003': image cannot be decoded"),
        (lambda r: save(r / "sal_distill/2008_000001.png", np.zeros((3, 3), np.uint8)),
         "'2008_000001': sal is 3x3, its image is 40x60"),
        (lambda r: save(r / "normals_distill/2008_000001.png", np.zeros((3, 3, 3), np.uint8)),
         "train sample '2008_000001' cannot be used .*differ in size"),
    ],
)  # fmt: skip
def test_what_is_missing_or_broken_is_named(
    bundle: Path, tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    damage(bundle)
    with pytest.raises(InputError, match=said):
        prepared(bundle, tmp_path / "p.h5")
    assert not (tmp_path / "p.h5").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_bundle_without_normals_goes_on_with_the_rest(bundle: Path, tmp_path: Path) -> None:
    shutil.rmtree(bundle / "normals_distill")
    shutil.rmtree(bundle / "sal_distill")
    assert prepared(bundle, tmp_path / "p.h5").info.tasks == ("semseg", "human_parts", "edge")


def test_an_unknown_part_of_a_person_is_named(tmp_path: Path) -> None:
    part_file(tmp_path / "x.mat", (20, 20), [(PERSON, {"tail": box((20, 20), 1, 1)})])
    with pytest.raises(ValueError, match="unknown body part 'tail'"):
        parts_of((tmp_path / "x.mat").read_bytes())


def parts_by_the_field(data: bytes) -> np.ndarray:
    """The loaders' way, by position in the nested arrays, written down independently."""
    groups = (
        "hair head lear rear leye reye lebrow rebrow mouth nose",
        "neck torso",
        "luarm ruarm",
        "llarm rlarm lhand rhand",
        "luleg ruleg",
        "llleg rlleg lfoot rfoot",
    )
    index = {name: i + 1 for i, names in enumerate(groups) for name in names.split()}
    anno = loadmat(io.BytesIO(data))["anno"][0][0]
    target = np.zeros(anno[1][0][0][2].shape, np.uint8)
    for thing in anno[1][0]:
        if thing[1][0][0] == PERSON and thing[3].size:
            for part in range(thing[3].shape[1]):
                mask = thing[3][0][part][1].astype(bool)
                target[mask] = index[thing[3][0][part][0][0]]
    return target


def test_real_parts_are_those_of_the_field(real_data: Path) -> None:
    seen = set()
    for path in sorted((real_data / "pascal/part_mat").glob("*.mat")):
        parts = parts_of(path.read_bytes())
        np.testing.assert_array_equal(parts, parts_by_the_field(path.read_bytes()))
        assert parts.shape == np.asarray(Image.open(path.with_suffix(".jpg"))).shape[:2]
        seen |= set(np.unique(parts))
    assert seen == set(range(7))


def test_real_images_masks_and_context_pass_through(real_data: Path, tmp_path: Path) -> None:
    root, real = tmp_path / "PASCAL_MT", real_data / "pascal"
    images = {p.stem: p for p in real.glob("part_mat/*.jpg")}
    images |= {p.stem: p for p in sorted(real.glob("voc_subset/images/*.jpg"))[:30]}
    images |= {p.stem: p for p in real.glob("context_samples/images/*.jpg")}
    for kind in (*FOLDERS[:3], *FOLDERS[4:6]):
        (root / kind).mkdir(parents=True)
    for ident, path in images.items():
        shutil.copy(path, root / "JPEGImages")
        shape = np.asarray(Image.open(path)).shape[:2]
        for source, kind in (("voc_subset/masks", "semseg/VOC12"), ("part_mat", "human_parts")):
            for file in (real / source).glob(f"{ident}.[pm][na][gt]"):
                shutil.copy(file, root / kind)
        context = real / f"context_samples/labels_index/{ident}.png"
        whole = np.full(shape, 9, np.uint16)  # what the samples lack is made here
        labelmap = np.asarray(Image.open(context)).astype(np.uint16) if context.exists() else whole
        savemat(root / f"pascal-context/trainval/{ident}.mat", {"LabelMap": labelmap})
        if not (root / f"human_parts/{ident}.mat").exists():
            part_file(root / f"human_parts/{ident}.mat", shape, [])
    ids = sorted(images)
    (root / "ImageSets/Context/train.txt").write_text("\n".join(ids[:-5]))
    (root / "ImageSets/Context/val.txt").write_text("\n".join(ids[-5:]))
    for split in LISTS:
        reader = prepared(root, tmp_path / f"{split}.h5", split)
        for index, ident in enumerate(reader.ids):
            sample, mask = reader[index], root / f"semseg/VOC12/{ident}.png"
            np.testing.assert_array_equal(
                sample["image"], np.asarray(Image.open(images[ident]).convert("RGB"))
            )
            if mask.exists():
                np.testing.assert_array_equal(sample["semseg"], Image.open(mask))
            np.testing.assert_array_equal(sample["edge"], boundaries(labelmap_of(root, ident)))
            assert ("human_parts" in sample) == parts_of(
                (root / f"human_parts/{ident}.mat").read_bytes()
            ).any()


def test_the_lists_are_those_of_voc2010(real_data: Path) -> None:
    sets = real_data / "pascal/sets"
    for split, count in pascal.DATASET.splits.items():
        assert len((sets / f"voc2010_{split}_{count}.txt").read_text().split()) == count


def test_what_is_no_pascal_archive_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match="no known PASCAL archive"):
        pascal.plan(open_archive(tmp_path / "x", tmp_path))


def test_of_two_sets_of_masks_those_of_voc2012_count() -> None:
    years = (2010, 2012)
    names = [f"VOCdevkit/VOC{y}/SegmentationClass/{i}.png" for y in years for i in "ab"]
    found = pascal.find_members(tuple(names[:3]))
    assert found["voc"] == {"a": names[2], "b": names[1]}
