"""Labels of a folder mean what a person sees in them; what they lack is told at once."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtlcli.data.prepare import prepare
from mtlcli.data.reader import Reader
from mtlcli.errors import InputError
from mtlcli.files import stays_inside
from mtlcli.tasks.normals import TASK as NORMALS
from tests.test_pictures import palette, turned

SIZE = (40, 56)
Y, X = np.mgrid[: SIZE[0], : SIZE[1]]
DISC = (X - 20) ** 2 + (Y - 15) ** 2 < 100
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
THICK = np.dstack([DISC.astype(np.uint8) * 255] * 3)
MASKS = {  # the same disc, as programs write it
    "0 and 255": Image.fromarray(DISC.astype(np.uint8) * 255),
    "0 and 1": Image.fromarray(DISC.astype(np.uint8)),
    "one bit": Image.fromarray(DISC),
    "palette": palette(DISC, BLACK, WHITE),
    "palette with white first": palette(~DISC, WHITE, BLACK),
    "palette of VOC": palette(DISC, BLACK, (128, 0, 0)),
    "16 bits": Image.fromarray(DISC.astype(np.uint16) * 65535),
    "0 and 1 of 16 bits": Image.fromarray(DISC.astype(np.uint16)),
    "grey as colour": Image.fromarray(THICK),
    "cut out": Image.fromarray(np.dstack((THICK | 255, DISC.astype(np.uint8) * 255))),
    "grey and transparent": Image.merge(
        "LA", [Image.fromarray(DISC.astype(np.uint8) * 200), Image.new("L", SIZE[::-1], 255)]
    ),
}


def make(
    folder: Path, task: str, labels: dict[str, bytes], entry: str = "", more: str = ""
) -> Path:
    """A dataset of one picture for each label file, given by its name."""
    (folder / "labels").mkdir(parents=True)
    (folder / "images").mkdir()
    for name, content in labels.items():
        (folder / "labels" / name).write_bytes(content)
        Image.new("RGB", SIZE[::-1]).save(folder / "images" / f"{Path(name).stem}.png")
    ending = Path(next(iter(labels))).suffix
    ids = ", ".join(Path(name).stem for name in labels)
    (folder / "own.yaml").write_text(
        f"size: [32, 32]\nsplits: {{train: [{ids}]}}\nimage: images/{{id}}.png\n"
        f'tasks: {{{task}: {{files: "labels/{{id}}{ending}"{entry}}}}}\n{more}'
    )
    return prepare(str(folder / "own.yaml"), out=folder / "own.h5", workers=1, quiet=True)


def content(picture: Image.Image, folder: Path) -> bytes:
    picture.save(folder / "made.png")
    return (folder / "made.png").read_bytes()


@pytest.mark.parametrize(("task", "white"), [("sal", 1), ("edge", 255)])
def test_white_on_black_is_read_however_it_was_written(
    tmp_path: Path, task: str, white: int
) -> None:
    labels = {f"m{i}.png": content(mask, tmp_path) for i, mask in enumerate(MASKS.values())}
    reader = Reader(make(tmp_path / "own", task, labels), "train")
    for index, name in enumerate(MASKS):
        np.testing.assert_array_equal(reader[index][task], DISC * np.uint8(white), err_msg=name)


def test_a_jpeg_mask_is_cut_at_half(tmp_path: Path) -> None:
    MASKS["0 and 255"].save(tmp_path / "a.jpg", quality=95)
    path = make(tmp_path / "own", "sal", {"a.jpg": (tmp_path / "a.jpg").read_bytes()})
    assert (Reader(path, "train")[0]["sal"] != DISC).mean() < 0.01


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (Image.fromarray(np.dstack((X * 4, Y * 6, X)).astype(np.uint8)), "3 channels"),
        (Image.fromarray((DISC * 1 + (X > 50) * 255).astype(np.uint8)), "0, 1 and 255"),
    ],
)
def test_a_mask_that_may_mean_anything_is_refused(
    tmp_path: Path, mask: Image.Image, said: str
) -> None:
    with pytest.raises(InputError, match=rf"labels/a\.png: .*{said}"):
        make(tmp_path / "own", "sal", {"a.png": content(mask, tmp_path)})


def test_labels_stand_upright_with_their_pictures(tmp_path: Path) -> None:
    from tests.test_pictures import COLOURS

    path = make(tmp_path / "own", "normals", {"a.png": turned(6, "PNG")})
    np.testing.assert_array_equal(Reader(path, "train")[0]["normals"], COLOURS)


@pytest.mark.parametrize(
    ("task", "label", "entry", "said"),
    [
        ("sal", np.zeros(SIZE, np.uint8), "", "train: sal .* not one pixel is set"),
        ("edge", np.zeros(SIZE, np.uint8), "", "train: edge .* not one pixel is set"),
        ("semseg", np.full(SIZE, 255, np.uint8), ", classes: [a]", "semseg .* no picture has a"),
        ("depth", np.zeros(SIZE, np.uint8), "", "depth .* no picture has a label"),
        ("depth", (X > 13).astype(np.uint8), "", "depth .* 25.00% of the pixels have no label"),
    ],
)
def test_what_a_split_lacks_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str, label: np.ndarray, entry: str,
    said: str,
) -> None:  # fmt: skip
    make(tmp_path / "own", task, {"a.png": content(Image.fromarray(label), tmp_path)}, entry)
    assert re.search(said, capsys.readouterr().err)


def test_of_whole_labels_nothing_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "own", "sal", {"a.png": content(MASKS["one bit"], tmp_path)})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("none", [np.nan, np.inf, -np.inf, -1.0, 0.0, -1e30])
def test_depth_that_is_no_depth_was_not_measured(tmp_path: Path, none: float) -> None:
    metres = (1 + X / 10).astype(np.float64)
    metres[DISC] = none
    np.save(tmp_path / "a.npy", metres[None])
    path = make(tmp_path / "own", "depth", {"a.npy": (tmp_path / "a.npy").read_bytes()})
    stored = Reader(path, "train")[0]["depth"]
    np.testing.assert_allclose(stored, np.where(DISC, 0, metres), rtol=1e-6)


ARRAYS = {
    "too far": (np.full(SIZE, 2000.0), "metres: 0.001"),
    "one number": (np.float64(3), "expected 2 axes"),
    "flat": (np.ones(SIZE[0] * SIZE[1]), "expected 2 axes"),
    "one pixel": (np.ones((1, 1)), "1x1"),
    "no pixel": (np.ones((0,)), "axes"),
    "other size": (np.ones((9, 9)), "9x9"),
    "complex": (np.ones(SIZE, complex), "not real numbers"),
    "text": (np.full(SIZE, "a"), "not real numbers"),
    "objects": (np.full(SIZE, None), "."),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_are_no_map_are_refused(tmp_path: Path, case: str) -> None:
    array, said = ARRAYS[case]
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=said):
        make(tmp_path / "own", "depth", {"a.npy": (tmp_path / "a.npy").read_bytes()})


def test_an_array_that_says_it_is_larger_than_its_file_takes_no_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((4, 1)))
    data = (tmp_path / "a.npy").read_bytes().replace(b"(4, 1), }         ", b"(4000000000, 99), }")
    with pytest.raises(InputError, match="is cut short"):
        make(tmp_path / "own", "depth", {"a.npy": data})


def test_codes_whose_vector_is_short_are_no_label() -> None:
    every = np.stack(np.meshgrid(*[np.arange(0, 256, 5)] * 3), -1).reshape(52 * 52, 52, 3)
    codes = every.astype(np.uint8)
    vectors = 2 * codes.astype(np.float64) / 255 - 1
    known = (np.linalg.norm(vectors, axis=-1) >= 0.5) & codes.any(-1)
    assert 0.5 < known.mean() < 0.99
    np.testing.assert_array_equal(NORMALS.map.labelled(codes), known)
    target = NORMALS.map.target(codes)
    np.testing.assert_array_equal(target.any(axis=0), known)
    np.testing.assert_allclose(target[:, known], vectors[known].T, atol=1e-6)


@pytest.mark.parametrize("grey", [127, 128, 120, 140])
def test_a_grey_rim_costs_no_degree(grey: int) -> None:
    codes = np.full((40, 60, 3), (128, 128, 255), np.uint8)
    codes[:, :20] = grey
    target = torch.from_numpy(NORMALS.map.target(codes))
    perfect = torch.zeros(3, 40, 60)
    perfect[2] = 1
    assert NORMALS.score([NORMALS.measure(perfect, target, {})], {})["mErr"] < 0.5


BAD_OPTIONS = {
    "classes: 3": ("semseg", ", classes: 3", "classes must be a list .* such as .grass, path."),
    "256 classes": ("semseg", f", classes: {list(range(256))}", "at most 255 names"),
    "a class twice": ("semseg", ", classes: [a, a]", "none twice"),
    "a word as weight": ("edge", ", positive_weight: abc", "positive_weight must be a number"),
    "no number": ("edge", ", positive_weight: .nan", "positive_weight must be a number"),
    "NaN": ("edge", ", positive_weight: NaN", "positive_weight must be a number"),
    "below nothing": ("edge", ", positive_weight: -3", "positive_weight must be a number"),
    "infinite": ("edge", ", max_dist: .inf", "max_dist must be a number"),
    "unknown protocol": ("edge", ", protocol: sesm", "protocol must be a boundary protocol"),
    "unit of no number": ("depth", ", metres: 1e999", "metres must be a number"),
    "maybe": ("depth", ", zoom: maybe", "zoom must be true or false"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_options_that_cannot_be_are_refused_before_anything_is_read(
    tmp_path: Path, case: str
) -> None:
    task, entry, said = BAD_OPTIONS[case]
    with pytest.raises(InputError, match=said):
        make(tmp_path / "own", task, {"a.png": b"never read"}, entry)


@pytest.mark.parametrize(
    "name", ["0010", "0x1F", "1.10", "1e3", "2008_000002", "yes", "on", "null", "~x", "2001-01-01",
             "1_000", "0b1", "12:30:45", "Ä-ö.1", "kitchen/0001", "True"],
)  # fmt: skip
def test_ids_and_classes_are_text_as_written(tmp_path: Path, name: str) -> None:
    for folder in ("images", "labels"):
        place = tmp_path / folder / f"{name}.png"
        place.parent.mkdir(parents=True)
        kind = ("RGB", (9, 9, 9)) if folder == "images" else ("L", 0)
        Image.new(kind[0], SIZE[::-1], kind[1]).save(place)
    (tmp_path / "own.yaml").write_text(
        f"size: [32, 32]\nsplits: {{train: [{name}]}}\nimage: images/{{id}}.png\n"
        f'tasks: {{semseg: {{files: "labels/{{id}}.png", classes: [{name}]}}}}\n'
    )
    path = prepare(str(tmp_path / "own.yaml"), out=tmp_path / "own.h5", workers=1, quiet=True)
    reader = Reader(path, "train")
    assert reader.ids == (name,)
    assert reader.info.classes == {"semseg": (name,)}


UNSAFE = ["../a", "/etc/a", "a/../../b", "a//b", "./a", "a/.", "C:a", "a\\b", "..", "/", "x" * 201,
          "a\x07", "a/", "\u202eb", "a" * 180 + "ä" * 20]  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE)
def test_ids_that_could_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    assert not stays_inside(name)
    (tmp_path / "home/images").mkdir(parents=True)
    (tmp_path / "list.txt").write_text(name)
    (tmp_path / "own.yaml").write_text(
        "size: [32, 32]\nsplits: {train: list.txt}\nimage: home/images/{id}.png\n"
        'tasks: {sal: {files: "{id}.png"}}\n'
    )
    with pytest.raises(InputError):
        prepare(str(tmp_path / "own.yaml"), out=tmp_path / "own.h5", workers=1, quiet=True)


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ("{train: [a, b], val: [b]}", "the id b is there twice, in 'train' and 'val'"),
        ("{train: [a, b, a]}", "the id a is there twice, in 'train'"),
        ("{train: [a], train: [b]}", "'train' stands twice"),
    ],
)
def test_a_sample_is_in_one_split_only(tmp_path: Path, splits: str, said: str) -> None:
    for name in "ab":
        MASKS["one bit"].save(tmp_path / f"{name}.png")
    (tmp_path / "own.yaml").write_text(
        f"size: [32, 32]\nsplits: {splits}\nimage: '{{id}}.png'\n"
        'tasks: {sal: {files: "{id}.png"}}\n'
    )
    with pytest.raises(InputError, match=said):
        prepare(str(tmp_path / "own.yaml"), out=tmp_path / "own.h5", workers=1, quiet=True)
