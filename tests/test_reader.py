"""The dataset file and its reader: what went in comes out, in any process."""

import json
import multiprocessing as mp
import pickle
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mtlcli.data import hdf5
from mtlcli.data.convert import convert
from mtlcli.data.hdf5 import Info, read_info
from mtlcli.data.reader import Reader
from mtlcli.data.stored import decode, encode, image_blob, require_stored_form
from mtlcli.datasets._dataset import Plan, Sample
from mtlcli.errors import InputError

SHAPE = (20, 28)
IDS = {"train": tuple("abcdefg"), "val": ("x", "y")}
TASKS = ("semseg", "depth", "normals", "edge", "sal")


def make_sample(split: str, index: int, vectors: bool = False, varied: bool = False) -> Sample:
    """Noise in stored form; the second sample of a split has no depth."""
    noise = np.random.default_rng(hash((split == "train", index)) % 1000)
    shape = (SHAPE[0] + 3 * index, SHAPE[1] + index) if varied else SHAPE
    normals = noise.normal(size=(*shape, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    sample = {
        "image": noise.integers(0, 256, (*shape, 3), np.uint8),
        "semseg": noise.choice([0, 1, 2, 255], shape).astype(np.uint8),
        "depth": noise.uniform(0, 9, shape).astype(np.float32),
        "normals": normals if vectors else noise.integers(0, 256, (*shape, 3), np.uint8),
        "edge": noise.choice([0, 255], shape).astype(np.uint8),
        "sal": noise.choice([0, 1, 255], shape).astype(np.uint8),
    }
    return {k: v for k, v in sample.items() if (k, index) != ("depth", 1)}


class Noise:
    """A picklable `read` for plans."""

    def __init__(self, **form: bool):
        self.form = form

    def __call__(self, split: str, index: int) -> Sample:
        return make_sample(split, index, **self.form)


def make_info(**changes: Any) -> Info:
    record = {
        "name": "noise",
        "title": "Noise",
        "size": SHAPE,
        "tasks": TASKS,
        "classes": {"semseg": ("a", "b", "c")},
        "palettes": {"semseg": ((0, 0, 0), (9, 9, 9), (1, 2, 3))},
        "options": {"edge": {"positive_weight": 0.8}},
        "expected": {"train": 7, "val": 2},
        "shape": SHAPE,
        "vector_normals": False,
        "geometry": "as made",
        "source": "test",
        "layout": "test",
        "archives": ({"name": "a.tar", "bytes": 3},),
        "provenance": {"semseg": "noise"},
        "derived": ("edge",),
    }
    return Info(**(record | changes))


def make_file(folder: Path, *, vectors: bool = False, varied: bool = False) -> Path:
    shape = None if varied else SHAPE
    plan = Plan(
        source="test",
        layout="test",
        geometry="as made",
        ids=IDS,
        tasks=TASKS,
        shape=shape,
        read=Noise(vectors=vectors, varied=varied),
        vector_normals=vectors,
    )
    (folder / "work").mkdir()
    info = make_info(shape=shape, vector_normals=vectors)
    convert(plan, info, folder / "work", folder / "noise.h5", workers=1)
    return folder / "noise.h5"


FORMS = [
    {"vectors": False, "varied": False},
    {"vectors": True, "varied": False},
    {"vectors": False, "varied": True},
    {"vectors": True, "varied": True},
]


@pytest.mark.parametrize("form", FORMS)
def test_what_went_in_comes_out(tmp_path: Path, form: dict[str, bool]) -> None:
    path = make_file(tmp_path, **form)
    for split, ids in IDS.items():
        reader = Reader(path, split)
        assert reader.ids == ids
        for index in range(len(ids)):
            expected, found = make_sample(split, index, **form), reader[index]
            assert found.keys() == expected.keys()
            for key, array in expected.items():
                np.testing.assert_array_equal(found[key], array)
                assert found[key].dtype == array.dtype
                assert reader.is_sound(key, index)


def test_the_record_comes_back_as_it_was(tmp_path: Path) -> None:
    assert read_info(make_file(tmp_path)) == make_info()


def test_only_the_asked_tasks_are_read(tmp_path: Path) -> None:
    reader = Reader(make_file(tmp_path), "val", tasks=("edge", "semseg"))
    assert list(reader[0]) == ["image", "edge", "semseg"]


def test_samples_are_counted_from_either_end(tmp_path: Path) -> None:
    reader = Reader(make_file(tmp_path), "train")
    np.testing.assert_array_equal(reader[-1]["image"], reader[6]["image"])
    for index in (7, -8):
        with pytest.raises(IndexError):
            reader[index]


def test_no_handle_is_pickled(tmp_path: Path) -> None:
    reader = Reader(make_file(tmp_path), "train")
    before = reader[2]["image"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader))[2]["image"], before)


def sum_up(reader: Reader, order: list[int], answer: Any) -> None:
    answer.put([zlib.crc32(reader[i]["image"].tobytes()) for i in order])


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_processes_read_the_same_though_the_parent_has_it_open(tmp_path: Path, method: str) -> None:
    context = mp.get_context(method)
    reader = Reader(make_file(tmp_path), "train")
    expected = [zlib.crc32(reader[i]["image"].tobytes()) for i in range(7)]  # opens it
    order = [i % 7 for i in range(140)]
    answers = [context.SimpleQueue() for _ in range(2)]
    children = [context.Process(target=sum_up, args=(reader, order, a)) for a in answers]
    for child in children:
        child.start()
    for _ in range(20):
        sum_up(reader, order, answer := mp.SimpleQueue())
        assert answer.get() == [expected[i] for i in order]
    for child, answer_of_child in zip(children, answers):
        assert answer_of_child.get() == [expected[i] for i in order]
        child.join()
        assert child.exitcode == 0


def set_attribute(path: Path, name: str, value: Any) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs[name] = value


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda p: p.write_bytes(b"hello"), "is not an HDF5 file"),
        (lambda p: p.write_bytes(p.read_bytes()[:9000]), "is cut short"),
        (lambda p: set_attribute(p, "complete", False), "is incomplete"),
        (lambda p: set_attribute(p, "schema", 99), "has schema 99, this program reads schema 1"),
        (lambda p: h5py.File(p, "w").close(), "is not a dataset file of this program"),
    ],
)
def test_what_is_no_complete_dataset_is_refused(tmp_path: Path, damage: Any, said: str) -> None:
    path = make_file(tmp_path).rename(tmp_path / "nyud.h5")
    damage(path)
    with pytest.raises(InputError, match=said) as told:
        Reader(path, "train")
    assert "run `mtl prepare nyud --force`" in str(told.value)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prepared dataset that the package does not know, $MTL_HOME/datasets/noise.h5."""
    monkeypatch.setenv("MTL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets").mkdir()
    return make_file(tmp_path).rename(tmp_path / "datasets" / "noise.h5")


MISSING = {
    "nyud.h5": "nyud.h5 does not exist: run `mtl prepare nyud` first.",
    "datasets/roms.h5": "Did you mean rooms? ",
    "noises.h5": "Did you mean noise? ",
    "noise": "does not exist. Did you mean FILE?",
    "zzz.h5": "zzz.h5 does not exist. Prepared: noise; `mtl prepare NAME` makes nyud, ",
}


@pytest.mark.parametrize("typed", MISSING)
def test_a_file_that_is_not_there_offers_only_what_can_be_made(own: Path, typed: str) -> None:
    with pytest.raises(InputError) as told:
        read_info(Path(typed))
    line = str(told.value)
    assert MISSING[typed].replace("FILE", str(own)) in line
    for offered in re.findall(r"mtl prepare (\S+)`", line):
        assert offered in ("nyud", "NAME")


def test_only_a_dataset_is_to_be_prepared_again(own: Path) -> None:
    own.with_name("rooms.jpg").write_bytes(b"picture")
    own.with_name("other.txt").write_bytes(b"text")
    for name in ("rooms.jpg", "other.txt"):
        with pytest.raises(InputError) as told:
            read_info(own.with_name(name))
        assert str(told.value).endswith(f"{name} is no dataset file: it is not an HDF5 file.")
    own.write_bytes(own.read_bytes()[:9000])
    with pytest.raises(InputError, match=r"cut short: make it again .* from the YAML file"):
        read_info(own)


def test_others_may_have_the_file_open(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(Reader(path, "train")[3]["image"], file["train/image"][3])


def test_a_file_that_is_being_written_is_told(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    code = f"import h5py; f = h5py.File({str(path)!r}, 'r+'); print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(InputError, match="open for writing in another program"):
            Reader(path, "train")
        writer.kill()


def test_what_the_file_does_not_have_is_named(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    with pytest.raises(InputError, match="no split 'test'; it has train, val"):
        Reader(path, "test")
    with pytest.raises(InputError, match="task 'human_parts'; it has semseg, depth"):
        Reader(path, "train", tasks=("human_parts",))


def test_times_and_places_leave_no_trace(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert make_file(tmp_path / "one").read_bytes() == make_file(tmp_path / "two").read_bytes()


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    with h5py.File(path, "r+") as file:
        file["train/image"][3, 5, 5, 0] ^= 1
    reader = Reader(path, "train")
    assert [reader.is_sound("image", i) for i in range(7)] == [i != 3 for i in range(7)]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.uint16])
def test_blobs_lose_nothing(dtype: type) -> None:
    array = (np.random.default_rng(0).random((31, 17)) * 255).astype(dtype)
    np.testing.assert_array_equal(decode(encode(array)), array)


def test_a_jpeg_is_kept_as_it_is_and_read_as_pillow_reads_it(real_data: Path) -> None:
    from PIL import Image

    for path in sorted((real_data / "pascal/voc_subset/images").glob("*.jpg"))[:20]:
        data = path.read_bytes()
        assert image_blob(data) == data
        np.testing.assert_array_equal(decode(data), np.asarray(Image.open(path)))


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("semseg", lambda a: np.where(a == 2, 3, a).astype(np.uint8), "value 3, outside 0 .. 2"),
        ("sal", lambda a: a + np.uint8(1), "value 2, outside 0 .. 1"),
        ("depth", lambda a: -a, "outside 0 .. 1000 metres"),
        ("depth", lambda a: a * np.float32("nan"), "not finite"),
        ("depth", lambda a: a.astype(np.float64), "is float64"),
        ("edge", lambda a: a[:-1], "edge is 19x28, its image is 20x28"),
        ("normals", lambda a: a[..., :2], r"expected uint8\(20, 28, 3\)"),
        ("image", lambda a: b"\xff\xd8 no jpeg", "image cannot be decoded"),
        ("image", lambda a: a[:, :-2], "image is 20x26, this dataset's are 20x28"),
    ],
)
def test_what_is_not_in_stored_form_is_named(key: str, change: Any, said: str) -> None:
    sample = make_sample("train", 0)
    require_stored_form(sample, make_info(), "here")
    with pytest.raises(InputError, match=f"here: .*{said}"):
        require_stored_form(sample | {key: change(sample[key])}, make_info(), "here")


def test_vectors_that_are_not_of_unit_length_are_named() -> None:
    sample, info = make_sample("train", 0, vectors=True), make_info(vector_normals=True)
    sample["normals"][0, 0] = 0  # no label
    require_stored_form(sample, info, "here")
    with pytest.raises(InputError, match="vector of length 2"):
        require_stored_form(sample | {"normals": sample["normals"] * 2}, info, "here")


def test_attributes_are_readable_without_this_program(tmp_path: Path) -> None:
    with h5py.File(make_file(tmp_path)) as file:
        assert file.attrs["schema"] == hdf5.SCHEMA
        assert bool(file.attrs["complete"])
        assert json.loads(file.attrs["classes"]) == {"semseg": ["a", "b", "c"]}
        assert file["train/depth"].chunks == (1, *SHAPE)
        assert file["train/present/depth"][:].tolist() == [1, 0, 1, 1, 1, 1, 1]
