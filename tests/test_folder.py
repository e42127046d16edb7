"""A folder of pictures with a YAML file is a dataset like any other."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from torch.nn import ModuleDict

from mtlcli.data.inspect import describe
from mtlcli.data.prepare import prepare
from mtlcli.data.reader import Reader
from mtlcli.datasets import _folder, _folder_entries
from mtlcli.errors import InputError
from tests.pages import example

EXAMPLE = dedent((_folder.__doc__ or "").split("\n\n")[1])  # the one the documentation shows
SIZES = {"a1": (40, 52), "a2": (48, 40), "a17": (36, 36), "a18": (44, 60)}


@pytest.fixture
def garden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the example; a2 has no depth."""
    monkeypatch.setenv("MTL_HOME", str(tmp_path / "home"))
    root, noise = tmp_path / "photos", np.random.default_rng(0)
    for kind in ("images", "masks", "depth", "normals", "edges", "salient", "lists"):
        (root / kind).mkdir(parents=True)
    for ident, shape in SIZES.items():
        Image.fromarray(noise.integers(0, 256, (*shape, 3), np.uint8)).save(
            root / f"images/{ident}.jpg"
        )
        for kind, array in {
            "masks": noise.choice([0, 1, 2, 255], shape).astype(np.uint8),
            "depth": noise.integers(0, 9000, shape).astype(np.uint16),
            "normals": noise.integers(0, 256, (*shape, 3), np.uint8),
            "edges": noise.choice([0, 255], shape).astype(np.uint8),
            "salient": noise.choice([0, 255], shape).astype(np.uint8),
        }.items():
            Image.fromarray(array).save(root / f"{kind}/{ident}.png")
    (root / "depth/a2.png").unlink()
    (root / "lists/train.txt").write_text("a1\na2\n")
    (tmp_path / "my.yaml").write_text(EXAMPLE)
    return tmp_path


def pixels(garden: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(garden / "photos" / name))


def test_the_documented_example_works(garden: Path) -> None:
    path = prepare(str(garden / "my.yaml"), workers=1, quiet=True)
    assert path == garden / "home/datasets/garden.h5"
    train, val = Reader(path, "train"), Reader(path, "val")
    assert (train.ids, val.ids) == (("a1", "a2"), ("a17", "a18"))
    assert train.info.size == (256, 320)
    assert train.info.classes == {"semseg": ("grass", "path", "tree")}
    assert train.info.options["edge"]["positive_weight"] == 0.9
    sample = train[0]
    np.testing.assert_array_equal(sample["image"], pixels(garden, "images/a1.jpg"))
    np.testing.assert_array_equal(sample["semseg"], pixels(garden, "masks/a1.png"))
    np.testing.assert_allclose(sample["depth"], pixels(garden, "depth/a1.png") * 0.001, rtol=1e-6)
    np.testing.assert_array_equal(sample["normals"], pixels(garden, "normals/a1.png"))
    np.testing.assert_array_equal(sample["edge"], pixels(garden, "edges/a1.png"))
    np.testing.assert_array_equal(sample["sal"], pixels(garden, "salient/a1.png") // 255)


def test_the_short_example_of_the_training_page_works(garden: Path) -> None:
    page = garden / "photos" / "my.yaml"
    page.write_text(example("size: [256, 320]", "yaml"))
    reader = Reader(prepare(str(page), workers=1, quiet=True), "train")
    assert reader.path == garden / "home/datasets/my.h5"
    assert set(reader[0]) == {"image", "semseg", "depth", "normals", "edge", "sal"}


def test_a_picture_may_lack_a_label(garden: Path) -> None:
    reader = Reader(prepare(str(garden / "my.yaml"), workers=1, quiet=True), "train")
    assert "depth" in reader[0]
    assert "depth" not in reader[1]
    assert "1/2 samples" in describe(reader.path).text()


def test_another_description_needs_force(garden: Path) -> None:
    prepare(str(garden / "my.yaml"), workers=1, quiet=True)
    (garden / "my.yaml").write_text(EXAMPLE.replace("0.9", "0.7"))
    with pytest.raises(InputError, match="--force"):
        prepare(str(garden / "my.yaml"), workers=1, quiet=True)


def test_arrays_of_vectors_and_metres_are_taken_as_they_are(garden: Path) -> None:
    noise = np.random.default_rng(1)
    for ident, shape in SIZES.items():
        vectors = noise.normal(size=(*shape, 3)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        np.save(garden / f"photos/normals/{ident}.npy", vectors)
        np.save(garden / f"photos/depth/{ident}.npy", noise.uniform(0, 9, shape))
    said = yaml.safe_load(EXAMPLE)
    said["tasks"] = {t: {"files": f"{t}/{{id}}.npy"} for t in ("depth", "normals")}
    (garden / "my.yaml").write_text(yaml.safe_dump(said))
    sample = Reader(prepare(str(garden / "my.yaml"), workers=1, quiet=True), "val")[1]
    np.testing.assert_array_equal(sample["normals"], np.load(garden / "photos/normals/a18.npy"))
    depth = np.load(garden / "photos/depth/a18.npy").astype(np.float32)
    np.testing.assert_array_equal(sample["depth"], depth)


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    said = yaml.safe_load(EXAMPLE)
    change(said)
    return yaml.safe_dump(said)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", r"my\.yaml is not valid YAML \(line 1\)"),
        ("just words", "expected entries such as image"),
        (changed(lambda s: s.pop("image")), "lacks the entry 'image'"),
        (changed(lambda s: s.update(colour=1)), "unknown entry 'colour'"),
        (changed(lambda s: s.update(size=256)), r"size must be \[height, width\]"),
        (changed(lambda s: s.update(image="x.jpg")), r"image must be one text with {id}"),
        (changed(lambda s: s.update(splits={"val": ["a1"]})), "at least train"),
        (changed(lambda s: s["splits"].update(val="lists/val.txt")), "no list .*val.txt"),
        (changed(lambda s: s["splits"].update(val="x" * 256)), "splits: val must be"),
        (changed(lambda s: s.update(root="x" * 256)), "root must be the path of a folder"),
        (changed(lambda s: s.update(title="x" * 5000)), "title must be a text"),
        (
            changed(lambda s: s["splits"].update(val=[])),
            r"splits: val must be .*list of ids, not \[\]",
        ),
        (changed(lambda s: s["splits"].update(val=["a99"])), r"lacks images/a99\.jpg"),
        (
            changed(lambda s: s["tasks"].update(smell={"files": "{id}"})),
            "'smell' .* give it a kind",
        ),
        (changed(lambda s: s["tasks"]["sal"].update(kind="maps")), "no map 'maps'"),
        (
            changed(lambda s: s["tasks"]["semseg"].pop("classes")),
            "'semseg': lacks the entry 'classes'",
        ),
        (changed(lambda s: s["tasks"]["sal"].update(unit="m")), "unknown entry 'unit'"),
        (
            changed(lambda s: s["tasks"]["sal"].update(kind="depth")),
            "'sal': its kind is foreground",
        ),
        (changed(lambda s: s["tasks"]["depth"].update(scale=2)), "'depth': metres and scale"),
        (changed(lambda s: s.update(image="../{id}.jpg")), "image must be .* below root"),
        (changed(lambda s: s.update(image="/{id}.jpg")), "image must be .* below root"),
        (changed(lambda s: s.update(name="rooms")), "'rooms' is a dataset of the program"),
        (
            changed(lambda s: s["tasks"]["depth"].update(metres=9)),
            r"depth/a1\.png: depth in metres",
        ),
        (changed(lambda s: s["tasks"]["semseg"].update(classes=["a"])), "semseg has value 1"),
        (changed(lambda s: s["tasks"]["sal"].update(files="images/{id}.jpg")), "3 channels"),
    ],
)
def test_a_description_that_makes_no_sense_is_told(garden: Path, text: str, told: str) -> None:
    (garden / "my.yaml").write_text(text)
    with pytest.raises(InputError, match=told):
        prepare(str(garden / "my.yaml"), workers=1, quiet=True)
    assert not list((garden / "home").rglob("*.h5"))


def test_names_of_tasks_that_a_network_or_a_sample_cannot_have_are_refused(tmp_path: Path) -> None:
    said = yaml.safe_load(EXAMPLE)
    heat = said["tasks"].pop("heat")
    attributes = [name for name in dir(ModuleDict()) if not name.startswith("_")]
    assert {"type", "items", "keys"} < {*attributes}
    for name in (*attributes, "image", "size", "inside", "ids", "a.b"):
        with pytest.raises(InputError, match=f"tasks: '{name}' "):
            _folder_entries.check(tmp_path, said | {"tasks": {name: heat}})
    for name in ("heat", "my_type", "sizes", "Depth-2"):
        assert name in _folder_entries.check(tmp_path, said | {"tasks": {name: heat}})["tasks"]


@pytest.mark.parametrize("way", ["./images/{id}.jpg", "images//{id}.jpg", ".//images/./{id}.jpg"])
def test_a_pattern_may_be_written_in_any_way(garden: Path, way: str) -> None:
    text = EXAMPLE.replace("images/{id}.jpg", way).replace('"depth/', '"./depth//')
    (garden / "my.yaml").write_text(text)
    reader = Reader(prepare(str(garden / "my.yaml"), workers=1, quiet=True), "train")
    assert "depth" in reader[0]


def test_an_id_may_have_spaces(garden: Path) -> None:
    (garden / "photos/images/a1.jpg").rename(garden / "photos/images/a room.jpg")
    (garden / "photos/lists/train.txt").write_text("  a room \n\na2\n")
    reader = Reader(prepare(str(garden / "my.yaml"), workers=1, quiet=True), "train")
    assert reader.ids == ("a room", "a2")


@pytest.mark.parametrize(
    "change",
    [
        lambda photos: (photos / "lists/train.txt").write_text("a2\na1\n"),
        lambda photos: (photos / "masks/a18.png").unlink(),
        lambda photos: (photos / "images/a1.jpg").write_bytes(
            (photos / "images/a2.jpg").read_bytes()
        ),
    ],
)
def test_another_list_or_other_files_need_force(garden: Path, change: Callable) -> None:
    path = prepare(str(garden / "my.yaml"), workers=1, quiet=True)
    (garden / "photos/notes.txt").write_text("not of the dataset")
    assert prepare(str(garden / "my.yaml"), workers=1, quiet=True) == path, "complete already"
    change(garden / "photos")
    with pytest.raises(InputError, match="files that have changed since; pass --force"):
        prepare(str(garden / "my.yaml"), workers=1, quiet=True)


def test_archives_that_lie_in_the_folder_are_left_alone(garden: Path) -> None:
    with zipfile.ZipFile(garden / "photos/old.zip", "w") as file:
        file.writestr("depth/a2.png", (garden / "photos/depth/a1.png").read_bytes())
    (garden / "photos/broken.tar.gz").write_bytes(b"\x1f\x8bnothing")
    reader = Reader(prepare(str(garden / "my.yaml"), workers=1, quiet=True), "train")
    assert "depth" not in reader[1]


@pytest.mark.parametrize("grey", [False, True])
def test_a_photograph_is_no_map_of_normals(garden: Path, grey: bool) -> None:
    photo = Image.open(Path(__file__).parents[1] / "room.jpg").convert("L" if grey else "RGB")
    photo.resize((52, 40)).save(garden / "photos/normals/a1.png")
    with pytest.raises(InputError, match=r"'a1': normals has codes of no directions"):
        prepare(str(garden / "my.yaml"), workers=1, quiet=True)


def laughing(depth: int) -> list[Any]:
    """A list that is short in memory and endless when it is written out."""
    value: list[Any] = ["ha"] * 10
    for _ in range(depth):
        value = [value] * 10
    return value


WRONG = [3, 1.5, True, None, "", "a\nb", "{id", [], {}, [[1]], {"a": 1}, ["a", None], laughing(9)]
FITTING = {  # entry -> which of those may stand there
    "name": [3, 1.5],
    "title": [3, 1.5, "{id"],
    "root": ["{id"],
    "size": [],
    "splits": [],
    "splits/val": ["{id"],  # a file of that name is looked for
    "image": [],
    "tasks": [],
    "tasks/semseg": [],
    "tasks/semseg/files": [],
    "tasks/semseg/classes": [],
    "tasks/depth/metres": [3, 1.5],
    "tasks/edge/positive_weight": [],
    "tasks/edge/max_dist": [],
}


@pytest.mark.parametrize("entry", FITTING)
def test_a_value_of_the_wrong_type_is_one_line_that_names_the_entry(
    tmp_path: Path, entry: str
) -> None:
    fitting = list(map(repr, FITTING[entry]))
    *way, key = entry.split("/")
    for value in WRONG[:-1]:
        said = yaml.safe_load(EXAMPLE)
        place = said
        for name in way:
            place = place[name]
        place[key] = value
        if repr(value) in fitting:
            _folder_entries.check(tmp_path, said)
            continue
        with pytest.raises(InputError) as told:
            _folder_entries.check(tmp_path, said)
        message = str(told.value).removeprefix(str(tmp_path))
        assert key.removesuffix("s") in message
        assert "\n" not in message
        assert len(message) < 200


@pytest.mark.parametrize("value", [*WRONG, ["grass"] * 256, ["grass", True]])
def test_classes_are_a_list_of_names(tmp_path: Path, value: Any) -> None:
    said = yaml.safe_load(EXAMPLE)
    said["tasks"]["semseg"]["classes"] = value
    with pytest.raises(InputError, match=r"classes must be a list of at most 255 names, such as"):
        _folder_entries.check(tmp_path, said)


@pytest.mark.parametrize("name", ["/abs/x", "../x", "a/b", "..", "a b", ".h5", "-x"])
def test_a_name_leads_to_no_other_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="name must be letters"):
        _folder_entries.check(tmp_path, yaml.safe_load(EXAMPLE) | {"name": name})


@pytest.mark.parametrize("split", [7, None, "", ".", "a/b"])
def test_splits_have_names(tmp_path: Path, split: Any) -> None:
    said = yaml.safe_load(EXAMPLE)
    said["splits"][split] = ["a1"]
    with pytest.raises(InputError, match=r"splits: .* is no name"):
        _folder_entries.check(tmp_path, said)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"name: \xff\xfe", "no text in UTF-8"),
        (b"day: 2026-13-45", "unknown entry .day."),
        (b"[" * 5000, "not valid YAML"),
        (b"? [a]\n: b", "not valid YAML|unknown entry"),
    ],
)
def test_a_file_that_is_no_description_is_told(tmp_path: Path, text: bytes, told: str) -> None:
    (tmp_path / "my.yaml").write_bytes(text)
    with pytest.raises(InputError, match=told):
        _folder.FolderDataset.load(tmp_path / "my.yaml")


def test_lists_of_ids_are_read_as_editors_save_them(garden: Path) -> None:
    (garden / "photos/lists/train.txt").write_bytes(b"\xef\xbb\xbfa1\r\na2\r\n")
    assert _folder.FolderDataset.load(garden / "my.yaml").splits["train"] == ("a1", "a2")
    (garden / "photos/lists/train.txt").write_bytes(b"a\xff")
    with pytest.raises(InputError, match=r"train\.txt is no text in UTF-8"):
        _folder.FolderDataset.load(garden / "my.yaml")


def test_a_missing_description_is_told(garden: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*your\.yaml"):
        prepare(str(garden / "your.yaml"), quiet=True)


def test_options_of_other_datasets_do_not_apply(garden: Path) -> None:
    with pytest.raises(InputError, match="--geometry does not apply"):
        prepare(str(garden / "my.yaml"), geometry="425x560", quiet=True)
