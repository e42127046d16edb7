"""PASCAL-Context as the field trains and scores it: crops, padding, parts and boundaries."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.morphology import thin

from mtlcli import tasks as known_tasks
from mtlcli.boundary import SEISM, image_counts, quantise
from mtlcli.data.augment import augment, random_view, show
from mtlcli.data.batches import TrainingStream, WholePictures
from mtlcli.data.moments import IMAGENET
from mtlcli.data.prepare import prepare
from mtlcli.data.reader import Reader
from mtlcli.maps import map_of
from mtlcli.runs.config import RunConfig
from mtlcli.scoring.measure import measure
from mtlcli.training.selection import held_out
from tests.pascal_bundle import labelmap_of, make_pascal

IMAGE = (37, 53)
NAMES = ("semseg", "human_parts", "sal", "normals", "edge")
LABELS = {"semseg": 255, "human_parts": 255, "sal": 255, "edge": 255, "depth": 0, "normals": 0}


def picture(height: int, width: int) -> dict[str, np.ndarray]:
    """A sample whose every label says where it comes from; a person stands at the left."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    parts = np.zeros((height, width), np.uint8)
    person = np.s_[height // 8 : height // 2, 2 : width // 4]
    parts[person] = 1 + rows[person] % 6
    return {
        "image": np.stack([columns, rows, rows], axis=-1),
        "semseg": (rows * 7 + columns) % 19,
        "depth": 1 + columns.astype(np.float32),
        "human_parts": parts,
    }


def pad_of_the_field(array: np.ndarray, size: tuple[int, int], fill: float) -> np.ndarray:
    """ATRC's and DeMT's PadImage: half of what is missing before, the rest behind."""
    (height, width), missing = array.shape, [n - own for n, own in zip(size, array.shape)]
    out = np.full(size, fill, array.dtype)
    top, left = missing[0] // 2, missing[1] // 2
    out[top : top + height, left : left + width] = array
    return out


@pytest.mark.parametrize("size", [(64, 64), (60, 71), (38, 54), (37, 53)])
def test_a_picture_smaller_than_the_crop_stands_in_its_middle_as_in_the_fields_code(
    size: tuple[int, int],
) -> None:
    """At scale 1, mirrored before it is padded or not: the labels of PadImage, pixel for pixel."""
    sample, seen = picture(*IMAGE), set()
    maps = {name: map_of(name) for name in ("semseg", "depth")}
    for seed in range(8):
        rng = Fixed(zoom=1.0, mirrored=seed % 2 == 0)
        view = random_view(IMAGE, size, (1.0, 1.0), rng)
        shown = show(sample, view, maps, IMAGENET)
        for name, target in (("semseg", shown["semseg"]), ("depth", shown["depth"][0])):
            flipped = sample[name][:, ::-1] if view.mirrored else sample[name]
            np.testing.assert_array_equal(target, pad_of_the_field(flipped, size, LABELS[name]))
        seen.add(view.mirrored)
    assert seen == {False, True}


class Fixed:
    """Draws this scale and this side, else the lowest."""

    def __init__(self, zoom: float, mirrored: bool) -> None:
        self.zoom, self.mirrored = zoom, mirrored

    def uniform(self, low: float, high: float) -> float:
        return self.zoom

    def random(self) -> float:
        return 0.0 if self.mirrored else 0.99

    def integers(self, low: int, high: int) -> int:
        return low


def test_a_crop_without_a_part_is_ignored_and_one_with_a_part_is_as_it_was() -> None:
    """AddIgnoreRegions of the field's code, which looks at the crop: of zeros and ignored pixels
    alone nothing is learnt.
    """
    sample, maps = picture(120, 160), {name: map_of(name) for name in ("human_parts", "semseg")}
    kept = ignored = 0
    for seed in range(120):
        size = (64, 64)
        shown = augment(sample, maps, size, (1.0, 1.0), np.random.default_rng(seed), IMAGENET)
        parts = shown["human_parts"]
        if np.isin(parts, (0, 255)).all():
            assert (parts == 255).all()
            ignored += 1
        else:
            outside = (shown["semseg"] == 255) == (parts == 255)
            assert outside.all(), "what is ignored lies outside the picture, no more"
            assert (parts == 0).any()
            kept += 1
        assert (shown["semseg"] != 255).any()
    assert min(kept, ignored) > 20


def test_what_lies_outside_the_picture_is_no_part() -> None:
    """A picture of nobody, smaller than the crop: zeros within, 255 around, nothing to learn."""
    sample = picture(20, 20) | {"human_parts": np.zeros((20, 20), np.uint8)}
    maps, view = {"human_parts": map_of("human_parts")}, Fixed(zoom=1.0, mirrored=False)
    shown = show(sample, random_view((20, 20), (32, 32), (1.0, 1.0), view), maps, IMAGENET)
    assert (shown["human_parts"] == 255).all()


def test_classes_that_are_no_parts_keep_a_crop_of_their_first_class() -> None:
    sample = picture(40, 40) | {"semseg": np.zeros((40, 40), np.uint8)}
    maps, rng = {"semseg": map_of("semseg")}, np.random.default_rng(0)
    shown = augment(sample, maps, (32, 32), (2, 2), rng, IMAGENET)
    assert not shown["semseg"].any()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A small tree in the bundle's layout."""
    return make_pascal(tmp_path)


@pytest.fixture
def pascal(bundle: Path, tmp_path: Path) -> Callable[[str], Reader]:
    """The small bundle as a dataset file, by split."""
    file = prepare("pascal", archive=bundle, out=tmp_path / "pascal.h5", workers=1, quiet=True)
    return lambda split: Reader(file, split)


def test_the_stream_of_training_ignores_crops_without_a_part(pascal) -> None:
    reader = pascal("train")
    tasks = known_tasks.named(["human_parts"], reader.info.kinds, reader.info.options)
    stream = TrainingStream(reader, tasks, (24, 24), (1.0, 1.0), seed=0, moments=IMAGENET)
    crops = [stream[position]["human_parts"] for position in range(60)]
    assert any((crop == 255).all() for crop in crops)
    assert all((crop == 255).all() for crop in crops if np.isin(crop, (0, 255)).all())


def test_evaluation_shows_the_picture_in_the_middle_of_the_training_size(pascal) -> None:
    reader = pascal("val")  # one picture of 60x40
    tasks = known_tasks.named(reader.info.tasks)
    whole = WholePictures(reader, tasks, (1.0, 1.0), moments=IMAGENET)[0]
    padded = WholePictures(reader, tasks, (1.0, 1.0), least=(64, 47), moments=IMAGENET)[0]
    assert padded["image"].shape == (3, 64, 47)
    for plane, own in zip(padded["image"], whole["image"]):
        np.testing.assert_array_equal(plane, pad_of_the_field(own, (64, 47), 0))
    assert padded["inside"].tolist() == [2, 62, 3, 43]
    larger = WholePictures(reader, tasks, (1.0, 1.0), least=(60, 20), moments=IMAGENET)[0]
    np.testing.assert_array_equal(larger["image"], whole["image"])
    for name in ("semseg", "sal"):
        np.testing.assert_array_equal(padded[name], whole[name], "labels are scored as stored")


@pytest.fixture
def pascal_home(bundle: Path, home: Path) -> Path:
    """$MTL_HOME with the small bundle prepared in it."""
    file = home / "datasets" / "pascal.h5"
    prepare("pascal", archive=bundle, out=file, workers=1, quiet=True)
    return home


@pytest.mark.parametrize("options", [{"holdout": 0.5}, {"val_every": 1}])
def test_pictures_scored_in_training_are_shown_as_in_evaluation(pascal_home, options) -> None:
    reader = Reader(pascal_home / "datasets" / "pascal.h5", "train")
    config = RunConfig(dataset="pascal", size=(96, 64), **options)
    pictures = held_out(config, reader, known_tasks.named(["semseg"]), (1.0, 1.0))
    assert pictures[0]["image"].shape == (3, 96, 64)


def test_mtl_eval_shows_small_pictures_at_the_size_of_training(
    pascal_home, mtl, monkeypatch
) -> None:
    trained = mtl("train", "--dataset", "pascal", "--system", "multi_task", "--hidden", 8,
                  "--backbone", "resnet18_half", "--init", "random", "--size", 96, 64,
                  "--iterations", 1, "--batch-size", 2, "--workers", 0, "--quiet",
                  "--out", "run")  # fmt: skip
    assert trained.code == 0, trained.err
    shapes, real = [], WholePictures.__getitem__

    def look(self, index: int) -> dict[str, np.ndarray]:
        shapes.append(real(self, index)["image"].shape)
        return real(self, index)

    monkeypatch.setattr(WholePictures, "__getitem__", look)
    answer = mtl("eval", "run", "--workers", 0, "--quiet", "--device", "cpu")
    assert answer.code == 0, answer.err
    assert shapes == [(3, 96, 64)], "its picture has 60x40 of 512x512, so 11x5 at this size"


@pytest.mark.parametrize("coarse", [1, 4])
def test_predictions_are_cut_back_to_the_picture(pascal, coarse: int) -> None:
    """A predictor that answers what it sees is right on every pixel, wherever the picture stands
    and if its logits are coarser than what it was shown.
    """
    reader, seen = pascal("val"), []
    tasks = known_tasks.named(["depth"])
    pictures = WholePictures(reader, tasks, (1.0, 1.0), least=(64, 48), moments=IMAGENET)
    place = torch.arange(48 // coarse).float() * coarse + (coarse - 1) / 2  # column, of 48

    def predict(image: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(tuple(image.shape))
        return {"depth": place.expand(1, 1, 64 // coarse, -1)}

    kept = {}
    measure(predict, pictures, {}, {}, 0, True, lambda _, logits: kept.update(logits))
    assert seen == [(1, 3, 64, 48)]
    assert kept["depth"].shape == (1, 1, 60, 40)
    expected = (torch.arange(40) + 4.0).expand(1, 1, 60, 40)  # 48 - 40 = 4 + 4 columns around it
    assert (kept["depth"] - expected).abs().max() < 1e-3


def ground_truth_of_seism(labelmap: np.ndarray) -> np.ndarray:
    """seg2bmap, thinned: pixels unlike their right, lower or lower right neighbour."""
    borders = np.zeros(labelmap.shape, bool)
    height, width = labelmap.shape
    for y in range(height):
        for x in range(width):
            others = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            there = [labelmap[o] for o in others if o[0] < height and o[1] < width]
            borders[y, x] = any(other != labelmap[y, x] for other in there)
    return thin(borders)


@pytest.mark.parametrize("gt_as", [None, "boundary"])
def test_boundaries_are_scored_against_the_label_map_or_on_demand_against_what_was_learnt(
    pascal, bundle: Path, gt_as: str | None
) -> None:
    reader = pascal("val")
    edges = reader[0]["edge"]
    seism = ground_truth_of_seism(labelmap_of(bundle, reader.ids[0]))
    assert (seism != (edges > 0)).any(), "else nothing is shown here"
    noise = torch.randn(1, 1, *edges.shape, generator=torch.Generator().manual_seed(0))
    noise += 6 * torch.from_numpy(seism)
    options = {"edge": {**reader.info.options["edge"], **({"gt_as": gt_as} if gt_as else {})}}
    tasks = known_tasks.named(["edge"])
    pictures = WholePictures(reader, tasks, (1.0, 1.0), moments=IMAGENET)
    found = measure(lambda _: {"edge": noise}, pictures, tasks, options, 0, True)
    (_, statistics), *_ = found.pictures
    counts = image_counts(
        quantise(noise.sigmoid()[0, 0].numpy()),
        seism.astype(np.uint8) if gt_as is None else edges,
        SEISM,
        max_dist=0.0075,
    )
    for name in ("cntR", "sumR", "cntP", "sumP"):
        np.testing.assert_array_equal(statistics["edge"][name], getattr(counts, name))


def test_a_partition_is_no_task(pascal) -> None:
    reader = pascal("train")
    assert set(reader.info.tasks) == set(NAMES)
    assert "partition" not in reader[0]
    assert reader.truths(0)["partition"].dtype == np.uint8
