"""A run can be named wherever one is asked for, from any folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import mtlcli
from mtlcli.errors import InputError
from mtlcli.runs import names as run_names
from mtlcli.runs.names import SHIPPED, find_shipped
from mtlcli.runs.run import run_folders

NAME = "rooms_resnet18_half_multi_task"


@pytest.fixture
def run(
    home: Path, tmp_path_factory, monkeypatch: pytest.MonkeyPatch, save_network: Callable
) -> Path:
    """A run in $MTL_HOME/weights, while one works in another folder."""
    folder = save_network(home / "weights" / NAME / "last.pt").parent
    (folder / "run.json").write_text('{"config": {"iterations": 1}, "dataset": {}}')
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    return folder


@pytest.mark.parametrize("typed", [NAME, f"weights/{NAME}"])
def test_a_run_is_found_by_its_name_from_any_folder(run: Path, typed: str) -> None:
    assert run_names.resolve(Path(typed)) == run
    assert run_names.resolve(Path(typed) / "last.pt") == run / "last.pt"
    assert run_folders(Path(typed)) == [run]
    assert "semseg" in mtlcli.load(typed, device="cpu").tasks


def test_what_is_there_as_written_is_meant(run: Path) -> None:
    Path(NAME).mkdir()
    assert run_names.resolve(Path(NAME)) == Path(NAME)


def test_runs_to_compare_are_named(run: Path, mtl) -> None:
    Image.new("RGB", (40, 30)).save("x.jpg")
    drawn = mtl("visualize", "x.jpg", "--compare", SHIPPED, NAME, "--device", "cpu", "--quiet")
    assert drawn.code == 0, drawn.err
    assert (Path("visualized") / "x.png").is_file()


def test_a_run_to_resume_and_a_reference_are_named(run: Path, mtl) -> None:
    (run / "run.json").write_text("{}")
    refused = mtl("train", "--resume", NAME)
    assert f"{run}/run.json is not what mtl writes: it lacks 'config'" in refused.err
    (run / "results.json").write_text(json.dumps({"main": None}))
    assert f"{run}/results.json is not" in mtl("eval", SHIPPED, "--reference", NAME).err
    assert f"{run}/run.json is not what" in mtl("report", SHIPPED, "--reference", NAME).err


def test_the_shipped_name_is_the_shipped_network_until_there_is_such_a_run(
    home: Path, save_network: Callable
) -> None:
    own = find_shipped()
    assert own is not None
    there = home / "weights" / SHIPPED
    for folder in (there, home / SHIPPED):  # results, pictures
        folder.mkdir(parents=True)
    assert run_names.resolve(Path(SHIPPED)) == own.parent
    (home / SHIPPED).rmdir()
    save_network(there / "last.pt")
    assert run_names.resolve(Path(SHIPPED)) == there


@pytest.mark.parametrize(
    "command",
    [
        ("eval",),
        ("report",),
        ("export",),
        ("pack", "--out", "p"),
        ("train", "--resume"),
        ("visualize", "x.jpg", "--checkpoint"),
        ("report", SHIPPED, "--reference"),
    ],
)
def test_a_name_of_nothing_offers_the_nearest_run(run: Path, mtl, command: tuple) -> None:
    Image.new("RGB", (40, 30)).save("x.jpg")
    answer = mtl(*command, NAME.replace("rooms", "roms"))
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert f"Did you mean {NAME}?" in answer.err
    assert "`mtl doctor` lists the runs" in answer.err


def test_nothing_is_offered_for_what_resembles_nothing(run: Path) -> None:
    with pytest.raises(InputError, match="no run or checkpoint") as told:
        run_names.resolve(Path("zzz/last.pt"), "--resume")
    assert str(told.value).startswith("--resume zzz/last.pt: ")
    assert "Did you mean" not in str(told.value)


def test_runs_of_a_series_are_names_too(run: Path) -> None:
    seed = run.parent / "series" / "seed1"
    seed.mkdir(parents=True)
    (seed / "run.json").write_text("{}")
    assert run_names.list_names() == (SHIPPED, NAME, "series/seed1")
