"""Without a name the newest run is taken that one can rely on, else the network that ships."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import mtlcli
from mtlcli.errors import InputError
from mtlcli.runs import checkpoint, names
from mtlcli.runs.default_run import default_run
from tests.made_runs import write_run


@pytest.fixture
def package(home: Path, monkeypatch: pytest.MonkeyPatch, save_network: Callable) -> Path:
    """The network that comes with the package."""
    own = write_run(home / "installed" / names.SHIPPED, log=False) / "last.pt"
    save_network(own)
    monkeypatch.setattr(names, "find_shipped", lambda: own)
    return own


@pytest.fixture
def add(home: Path, save_network: Callable) -> Callable[..., Path]:
    """Makes a run of 40 iterations, each newer than those before: `add(name, ...)`."""
    count = 0

    def make(name: str, source: str = "atrc", **facts: object) -> Path:
        nonlocal count
        count += 1
        facts = {"iterations": 40, "file": {"source": source}} | facts
        folder = write_run(home / "weights" / name, **facts)  # type: ignore[arg-type]
        if facts.get("log") is False:
            (folder / "log.jsonl").unlink()  # as `mtl pack` leaves it
        path = save_network(folder / "last.pt")
        os.utime(path, (1e9 + count, 1e9 + count))
        return path

    return make


def test_the_newest_of_those_that_are_finished_and_scored(package: Path, add: Callable) -> None:
    assert default_run().path == package
    first = add("first")
    assert default_run().path == first
    second = add("second")
    assert default_run().path == second
    os.utime(first, (2e9, 2e9))
    assert default_run().path == first


UNFIT = {
    "rendered": {"source": "rendered"},
    "rendered by another name": {"source": "rendered", "dataset": "villa"},
    "unfinished": {"iterations": 41},
    "not scored": {"results": None},
    "scored in part": {"scored": {"limit": 3}},
    "packed and unfinished": {"log": False, "iterations": 41},
}


@pytest.mark.parametrize("case", UNFIT)
def test_no_other_run_is_taken_unasked(package: Path, add: Callable, case: str) -> None:
    add("new", **UNFIT[case])
    choice = default_run()
    assert choice.path == package
    assert "weights/new is passed over" in choice.why
    fit = add("fit")
    add("newer", **UNFIT[case])
    assert default_run().path == fit


def test_damaged_records_are_passed_over(package: Path, add: Callable) -> None:
    whole = add("whole")
    for i, text in enumerate(("", "[]", "{}", '{"config": 3}', '{"config": {}, "dataset": []}')):
        add(f"broken{i}").with_name("run.json").write_text(text)
    add("log").with_name("log.jsonl").write_bytes(b"\0" * 100)
    for i, text in enumerate(("", "[]", '{"main": null}')):
        add(f"results{i}").with_name("results.json").write_text(text)
    assert default_run().path == whole


def test_packed_and_imported_runs_are_finished(package: Path, add: Callable) -> None:
    packed = add("packed", log=False)
    assert default_run().path == packed
    imported = add("imported", log=False, scored={"iteration": 0})
    record = json.loads(imported.with_name("run.json").read_text()) | {"imported_from": "x.pth"}
    imported.with_name("run.json").write_text(json.dumps(record))
    assert default_run().path == imported


def test_samples_of_a_dataset_are_shown_to_a_network_of_it(package: Path, add: Callable) -> None:
    rooms = add("rooms", source="rendered", dataset="rooms")
    add("other")
    assert default_run("rooms").path == rooms
    with pytest.raises(InputError, match="no network trained on pascal"):
        default_run("pascal")


def test_without_any_it_is_said_why(add: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "find_shipped", lambda: None)
    add("run", results=None)
    with pytest.raises(InputError, match=r"weights/run is passed over: not scored.*--checkpoint"):
        default_run()


def test_what_was_chosen_is_said_and_how_to_choose(
    package: Path, add: Callable, mtl: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (40, 30)).save("x.png")
    shown = mtl("visualize", "x.png", "--quiet")
    assert shown.err.startswith(f"Network: {package} (comes with mtl")
    assert "--checkpoint NAME takes another" in shown.err
    own = add("own")
    shown = mtl("visualize", "x.png", "--quiet")
    assert shown.err.startswith(f"Network: {own} (the newest run")
    assert "--checkpoint NAME takes another" in shown.err
    assert mtl("visualize", "x.png", "--quiet", "--checkpoint", own).err == f"Network: {own}\n"
    capsys.readouterr()
    assert mtlcli.load(device="cpu").trained.path == own
    told = capsys.readouterr()
    assert told.out == ""
    assert f"Network: {own}" in told.err
    assert "load(NAME)" in told.err


def test_a_network_is_called_by_its_run_however_that_was_named(
    home: Path, save_network: Callable
) -> None:
    trained = checkpoint.load(save_network(home / "weights" / "mine" / "last.pt"), "cpu")
    for path in (trained.path, trained.path.parent, Path("mine"), Path("weights/mine/last.pt")):
        assert replace(trained, path=path).title == "mine"
