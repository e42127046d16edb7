"""`from mtlcli import load, train, evaluate`: what the command line does, from a program."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mtlcli
from mtlcli.errors import InputError
from mtlcli.runs import checkpoint
from mtlcli.runs.run import Run
from tests.pages import example

SMALL = {"dataset": "rooms", "system": "multi_task", "backbone": "resnet18_half", "init": "random",
         "batch_size": 2, "iterations": 2, "workers": 0, "device": "cpu",
         "quiet": True}  # fmt: skip


def test_the_example_of_the_reference_runs_as_it_stands_but_for_its_size(home: Path) -> None:
    code = example("from mtlcli import evaluate, load, train")
    assert code.count("iterations=300") == 1
    code = code.replace("iterations=300", "iterations=2, batch_size=2, workers=0, quiet=True")
    code = code.replace("limit=20", "limit=2, quiet=True")
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(home / "room.jpg")
    names: dict = {}
    exec(code, names)
    assert isinstance(names["run"], Run)
    assert names["scored"].results.images == 2
    assert names["out"]["depth"].shape == (40, 60)
    assert (home / "maps" / "depth" / "room.png").is_file()


@pytest.mark.parametrize("name", mtlcli.PLACES)
def test_each_door_has_an_example_in_its_docstring(name: str) -> None:
    told = getattr(mtlcli, name).__doc__
    assert "from mtlcli import" in told
    assert f"{name}(" in told


def test_a_run_from_python_is_the_run_of_the_command_line(home: Path, mtl) -> None:
    run = mtlcli.train(**SMALL, tasks=["depth", "semseg"], size=[32, 48], out=home / "own")
    words = [w for n, v in SMALL.items() if n != "quiet" for w in (f"--{n.replace('_', '-')}", v)]
    line = ("train", *words, "--task", "depth", "--task", "semseg", "--size", 32, 48, "--quiet")
    assert mtl(*line, "--out", "typed").code == 0
    one, other = (checkpoint.read(home / n / "last.pt") for n in ("own", "typed"))
    assert one["config"] == other["config"]
    assert all(torch.equal(one["network"][k], other["network"][k]) for k in other["network"])
    assert run.iteration == 2
    assert len(str(run)) < 300
    assert Path(run) == home / "own"


def test_a_run_goes_on_is_scored_and_is_loaded_as_it_came(home: Path) -> None:
    run = mtlcli.train(**SMALL)
    again = mtlcli.train(resume=run, device="cpu", quiet=True)
    assert again.folder == run.folder
    scored = mtlcli.evaluate(run.name, limit=2, device="cpu", workers=0, quiet=True)
    written = json.loads((run.folder / "results.json").read_text())
    assert dict(scored.main) == pytest.approx(written["main"])
    assert mtlcli.load(run, "cpu").tasks == tuple(scored.main)


def test_options_of_a_run_or_a_file_are_repeated(home: Path) -> None:
    run = mtlcli.train(**SMALL, clip=3)
    told = {"iterations": 1, "workers": 0, "device": "cpu", "quiet": True}
    again = mtlcli.train(like=run, **told)
    assert (again.config.clip, again.config.iterations) == (3.0, 1)
    (home / "own.json").write_text(json.dumps(again.config.to_json() | told))
    third = mtlcli.train(config="own.json", seed=4)
    assert (third.config.clip, third.config.iterations, third.config.seed) == (3.0, 1, 4)


def test_settings_of_the_system_are_keywords_too(home: Path) -> None:
    options = SMALL | {"system": "demt_itsa", "tasks": "depth", "iterations": 1}
    run = mtlcli.train(**options, steps=1, width=16, position_channels=8, points=2, heads=2,
                       feedforward=16, query="pixel")  # fmt: skip
    assert run.config.settings["steps"] == 1
    assert run.config.tasks == ("depth",)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"iteration": 3}, "Did you mean --iterations"),
        ({"nonsense": 3}, "--nonsense"),
        ({"iterations": "many"}, "iterations='many': must be an integer"),
        ({"iterations": 2.5}, "iterations=2.5"),
        ({"iterations": True}, "iterations=True"),
        ({"lr": None}, "lr=None: must be a number"),
        ({"size": (32,)}, r"size=\(32,\)"),
        ({"optimizer": "adam"}, "optimizer='adam'"),
        ({"workers": "two"}, "workers='two'"),
        ({"batch_size": 0}, "--batch-size must be positive"),
        ({"dataset": "nothing"}, "nothing"),
        ({"recipe": "nyud/vit_b/sak"}, "others report"),
        ({"resume": "nothing"}, "nothing"),
        ({"resume": "a", "out": "b"}, "leave out away"),
        ({"resume": "a", "like": "b"}, "like and config"),
        ({"like": "a", "config": "b"}, "exclude each other"),
    ],
)
def test_what_cannot_be_used_is_one_line(home: Path, given: dict, named: str) -> None:
    with pytest.raises(InputError, match=named) as error:
        mtlcli.train(**SMALL | given)
    assert "\n" not in str(error.value)
    assert not (home / "weights").exists()


def test_scoring_refuses_what_is_no_run_and_no_picture_at_all(home: Path) -> None:
    with pytest.raises(InputError, match="there is no run or checkpoint"):
        mtlcli.evaluate("nothing")
    with pytest.raises(InputError, match="A limit of 0"):
        mtlcli.evaluate("nothing", limit=0)


def test_the_doors_open_only_when_asked(home: Path) -> None:
    code = (
        "import mtlcli, sys\n"
        "assert {'load', 'train', 'evaluate'} <= set(mtlcli.__all__)\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
        "from mtlcli import evaluate, load, train\n"
        "assert callable(evaluate) and callable(load) and callable(train)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
