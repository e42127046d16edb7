"""Damage is found and named by whatever meets it, and ends nothing else."""

import errno
import json
import math
import os
import random
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from mtlcli import files
from mtlcli.data import hdf5
from mtlcli.data.download import find_problem
from mtlcli.data.inspect import check, describe
from mtlcli.data.prepare import prepare
from mtlcli.data.reader import Reader
from mtlcli.errors import InputError, MtlError
from mtlcli.runs import checkpoint, foreign
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import cut_log, read_log, split_log
from mtlcli.runs.health import check_runs, examine
from mtlcli.runs.run import is_sound, is_whole
from mtlcli.training.beginning import begin

ROUNDS = int(os.environ.get("MTL_DAMAGES", "40"))
STRANGE = [
    None,
    True,
    3,
    -1,
    1.5,
    "x",
    "",
    [],
    {},
    [1],
    {"a": 1},
    [[]],
    [None],
    10**400,
    float("nan"),
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A dataset file of pictures of differing sizes."""
    noise = np.random.default_rng(0)
    for index in range(4):
        shape = (40 + index, 50)
        Image.fromarray(noise.integers(0, 256, (*shape, 3), np.uint8)).save(
            tmp_path / f"p{index}.jpg"
        )
        Image.fromarray(noise.integers(0, 2, shape, np.uint8) * 255).save(
            tmp_path / f"p{index}.png"
        )
        np.save(tmp_path / f"p{index}.npy", noise.uniform(1, 9, shape))
    (tmp_path / "photos.yaml").write_text(
        "size: [32, 32]\nsplits: {train: [p0, p1, p2], val: [p3]}\nimage: '{id}.jpg'\n"
        'tasks: {edge: {files: "{id}.png"}, depth: {files: "{id}.npy"}}\n'
    )
    out = tmp_path / "photos.h5"
    return prepare(str(tmp_path / "photos.yaml"), out=out, workers=1, quiet=True)


@pytest.mark.parametrize("key", ["image", "edge", "depth"])
def test_a_changed_byte_of_a_blob_is_named_by_all_that_read_it(photos: Path, key: str) -> None:
    with h5py.File(photos, "r+") as file:
        start, end = file[f"train/{key}/offsets"][1:3]
        for at in (start, (start + end) // 2):
            file[f"train/{key}/bytes"][at] ^= 0x40
    named = rf"train sample 'p1' \({key}\)"
    with pytest.raises(InputError, match=named):
        Reader(photos, "train")[1]
    for work in (check, describe):
        with pytest.raises(MtlError, match=named):
            work(photos, quiet=True)
    assert Reader(photos, "train")[0].keys() == {"image", "edge", "depth"}


def test_a_changed_byte_of_an_array_stops_training_and_scoring(home: Path, mtl: Callable) -> None:
    path = home / "datasets/rooms.h5"
    shutil.copyfile(path, home / "copy.h5")
    os.replace(home / "copy.h5", path)  # the fixture's is a link
    with h5py.File(path, "r+") as file:
        file["train/semseg"][3, 5, 5] ^= 1
    reader = Reader(path, "train")
    with pytest.raises(InputError, match=r"train sample '00003' \(semseg\).*mtl prepare rooms"):
        reader[3]
    answer = mtl("train", "--dataset", "rooms", "--init", "random", "--backbone", "resnet18_half",
                 "--system", "multi_task", "--iterations", 4, "--batch-size", 8, "--device", "cpu",
                 "--workers", 1, "--quiet")  # fmt: skip
    assert answer.code == 2
    assert "sample '00003' (semseg)" in answer.err
    assert answer.err.count("\n") == 1
    answer = mtl("data", "rooms", "--check", "--quiet")
    assert answer.code == 1
    assert "train sample '00003' (semseg) and 0 more" in answer.err


def test_a_sample_is_compared_once_in_a_process(photos: Path, monkeypatch: Any) -> None:
    counted, compare = [], zlib.crc32
    monkeypatch.setattr(zlib, "crc32", lambda data: counted.append(1) or compare(data))
    reader = Reader(photos, "train")
    for _ in range(3):
        reader[0]
    assert len(counted) == 3  # image, edge, depth


def test_flipped_bits_in_the_head_of_a_file_are_one_line(photos: Path) -> None:
    """In processes of their own: what HDF5 makes of some is a crash or a loop."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom mtlcli.data.reader import Reader\n"
        "from mtlcli.errors import InputError\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n        reader = Reader(Path(name), 'train'); reader[0]; reader.fingerprint()\n"
        "    except InputError as error:\n        assert name in str(error), error\n"
    )
    whole, chance = photos.read_bytes(), random.Random(0)
    names = []
    for number in range(ROUNDS):
        content = bytearray(whole)
        content[chance.randrange(100, 6000)] ^= 1 << chance.randrange(8)
        names.append(photos.with_name(f"flipped{number}.h5"))
        names[-1].write_bytes(content)
    command = [sys.executable, "-c", code, *map(str, names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_dataset_whose_ids_lead_out_is_not_read(photos: Path) -> None:
    with h5py.File(photos, "r+") as file:
        del file["val/ids"]
        file["val"].create_dataset("ids", data=np.array([b"../../escaped"]))
    with pytest.raises(InputError, match=r"'\.\./\.\./escaped' is no id"):
        Reader(photos, "val")


@pytest.mark.parametrize("split", [".", "/", "train/present", "..", "train/../val", ""])
def test_a_split_is_a_name_and_no_way_through_the_file(photos: Path, split: str) -> None:
    with pytest.raises(InputError, match="has no split"):
        Reader(photos, split)


@pytest.mark.parametrize("field", ["size", "tasks", "kinds", "classes", "options", "shape"])
def test_a_record_of_other_types_is_one_line(photos: Path, field: str) -> None:
    for value in STRANGE:
        with h5py.File(photos, "r+") as file:
            before = file.attrs[field]
            file.attrs[field] = json.dumps(value) if value != 10**400 else "1" + "0" * 400
        try:
            Reader(photos, "train")[0]
        except InputError as error:
            said = str(error)
        else:
            said = str(photos)  # such a value may stand there
        assert str(photos) in said
        with h5py.File(photos, "r+") as file:
            file.attrs[field] = before


def test_files_that_may_not_be_read_are_not_called_damaged(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Unable to open file (Permission denied)")

    monkeypatch.setattr(hdf5.h5py, "File", refuse)
    with pytest.raises(InputError, match="no permission") as told:
        Reader(photos, "train")
    assert "prepare" not in str(told.value)


def test_a_file_system_without_locks_is_read_without(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = h5py.File

    def lockless(path: Path, mode: str, locking: Any = None) -> h5py.File:
        if locking is None:
            said = "unable to lock file, errno = 37, error message = 'No locks available'"
            raise OSError(errno.ENOLCK, f"Unable to synchronously open file ({said})")
        return whole(path, mode, locking=locking)

    monkeypatch.setattr(hdf5.h5py, "File", lockless)
    assert len(Reader(photos, "train")) == 3


def test_every_byte_of_a_checkpoint_counts(tmp_path: Path, save_network: Callable) -> None:
    path = save_network(tmp_path / "last.pt")
    assert is_sound(path)
    whole, chance = path.read_bytes(), random.Random(0)
    for _ in range(ROUNDS):
        content = bytearray(whole)
        at = chance.randrange(2000, len(whole) - 20000)
        for shift in range(64):  # padding between members carries nothing
            content[at + shift] ^= 0x40
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"last\.pt is cut short or damaged"):
            checkpoint.read(path)


def test_doctor_lists_what_is_damaged_and_goes_on(
    home: Path, make_run: Callable, save_network: Callable
) -> None:
    for name in ("whole", "tensor", "record", "results"):
        save_network(make_run(name, iterations=2) / "last.pt")
    content = bytearray((home / "weights/tensor/last.pt").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(b ^ 0x40 for b in content[middle : middle + 64])
    (home / "weights/tensor/last.pt").write_bytes(content)
    (home / "weights/record/run.json").write_bytes(b"\0" * 50)
    (home / "weights/results/results.json").write_text("[" * 100_000)
    (home / "datasets/broken.h5").write_bytes((home / "datasets/rooms.h5").read_bytes()[:3000])
    health = examine()
    states = {Path(f.name).name: f.state for f in (*health.runs, *health.datasets)}
    assert states.pop("whole") != "damaged"
    assert states.pop("rooms.h5") == "whole"
    assert set(states.values()) == {"damaged"}


@pytest.mark.parametrize(
    "bad", [b"garbage", b"\0" * 60, b"\xff\xfe", b"[1]", b"{}", b'{"iteration": "x"}', b"[" * 9999,
            b'{"iteration": 2, "loss": 3}', b'{"iteration": 2, "loss": {"a": NaN}}',
            b'{"iteration": 2, "holdout": {"a": 0.5}, "gain": "x"}',
            b'{"iteration": 1' + b"0" * 400 + b"}"],
)  # fmt: skip
def test_a_log_is_cut_at_the_first_line_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: bytes
) -> None:
    line = '{"iteration": %d, "loss": {"depth": 0.5}, "lr": 0.1}\n'
    (tmp_path / "log.jsonl").write_bytes((line % 1).encode() + bad + b"\n" + (line % 3).encode())
    assert [each["iteration"] for each in read_log(tmp_path)] == [1]
    cut_log(tmp_path, 9)
    assert (tmp_path / "log.jsonl").read_text() == line % 1
    assert capsys.readouterr().err.count("from line 2 on") == 1
    cut_log(tmp_path, 9)
    assert capsys.readouterr().err == ""


def test_a_log_of_a_former_version_with_nan_is_whole(tmp_path: Path) -> None:
    text = '{"iteration": %d, "loss": {}, "holdout": {"a": NaN, "b": 0.5}%s}\n'
    (tmp_path / "log.jsonl").write_text(text % (1, ', "gain": 0.0') + text % (2, ""))
    lines, is_all = split_log(tmp_path)
    assert is_all
    assert [line["iteration"] for line in lines] == [1, 2]
    assert all(math.isnan(line["holdout"]["a"]) for line in lines)


def test_a_number_that_no_float_holds_is_damage_of_one_run_alone(home, make_run, mtl) -> None:
    make_run("whole", iterations=2)
    results = make_run("one", iterations=2) / "results.json"
    record = json.loads(results.read_text())
    for place in ("main", "scores"):
        changed = json.loads(json.dumps(record))
        where = changed[place] if place == "main" else changed[place]["semseg"]
        where[next(iter(where))] = 10**400
        results.write_text(json.dumps(changed))
        assert len(check_runs()) == 2
        answer = mtl("report", "one", "--out", "r.html")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "one/results.json" in answer.err


@pytest.mark.parametrize("network", [None, 3, {"a": 3}])
def test_a_checkpoint_without_a_network_is_named(home, base, mtl, network: Any) -> None:
    content = checkpoint.read(base / "last.pt")
    kept = {k: v for k, v in content.items() if k not in ("format", "network")}
    checkpoint.save(base / "last.pt", **kept, **({} if network is None else {"network": network}))
    config = RunConfig(dataset="rooms", system="multi_task", backbone="resnet18_half",
                       init="random", from_run=str(base), tasks=("depth",))  # fmt: skip
    with pytest.raises(InputError, match=r"last\.pt .*no network"):
        begin(config, Reader(home / "datasets/rooms.h5", "train").info)
    for words in (("pack", base, "--out", "small"), ("eval", base), ("train", "--from", base)):
        answer = mtl(*words)
        assert (answer.code, answer.err.count("\n")) == (2, 1), words
        assert "no network" in answer.err


ODD: dict[str, Callable[[Path], Any]] = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a circle": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    for name in ("log.jsonl", "results.json", "sources.json"):
        ODD[kind](tmp_path / name)
    assert read_log(tmp_path) == []
    with pytest.raises(InputError, match="no regular file"):
        cut_log(tmp_path, 9)
    assert files.read_json(tmp_path / "results.json") == {}
    assert not is_whole(tmp_path / "log.jsonl")
    assert not is_sound(tmp_path / "log.jsonl")
    assert not foreign.is_exported(tmp_path / "log.jsonl")
    assert foreign.describe(tmp_path / "log.jsonl") == (
        "no regular file" if kind == "a pipe" else ""
    )
    assert find_problem(tmp_path / "sources.json") or kind == "a circle"


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every way into a JSON value."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, dict | list):
        pairs = [*value.items()] if isinstance(value, dict) else [*enumerate(value)][:2]
    return [p for k, v in pairs for p in ((*way, k), *places(v, (*way, k)))]


@pytest.mark.parametrize("file", ["run.json", "results.json", "log.jsonl"])
def test_a_record_with_any_other_value_is_reported_or_named(
    home: Path, make_run: Callable, mtl: Callable, file: str
) -> None:
    folder, chance = make_run("one", iterations=2), random.Random(0)
    text = (folder / file).read_text()
    whole = json.loads(text.splitlines()[0] if file == "log.jsonl" else text)
    ways = places(whole)
    for way in chance.sample(ways, min(ROUNDS // 5, len(ways))):
        changed = json.loads(json.dumps(whole))
        place = changed
        for key in way[:-1]:
            place = place[key]
        place[way[-1]] = chance.choice(STRANGE[:-2])
        (folder / file).write_text(json.dumps(changed) + "\n")
        assert {f.state for f in check_runs()} <= {"whole", "unfinished", "damaged"}
        answer = mtl("report", "one", "--out", "r.html")
        told = f"{way} = {place[way[-1]]!r}: {answer.err}"
        assert "MTL_DEBUG" not in answer.err, told
        assert answer.code in (0, 2), told


@pytest.mark.parametrize("content", ["{", "[1]", '{"a.zip": 3}', '{"a.zip": {"size": "x"}}'])
def test_a_damaged_record_of_downloads_is_listed(home: Path, content: str) -> None:
    ledger = home / "datasets/sources.json"
    ledger.write_text(content)
    found = [f for f in examine().datasets if f.name == str(ledger)]
    assert [f.state for f in found] == ["damaged"]
    ledger.write_text('{"a.zip": {"size": 3, "sha256": "00"}}')
    assert all(f.name != str(ledger) for f in examine().datasets)
