"""A run that goes on to another length: its schedule, its record, and exactly so after a kill."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from mtlcli.runs import checkpoint
from mtlcli.runs.folder import read_log
from mtlcli.training import loop

ON = ("--workers", 0, "--quiet", "--checkpoint-every", 2)


def record(run: str) -> dict[str, Any]:
    return json.loads(Path(run, "run.json").read_text())


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def test_an_extension_that_is_killed_ends_as_one_that_is_not(
    base: Path, mtl, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(base, "other")
    whole = mtl("train", "--resume", "base", "--iterations", 8, *ON)
    assert whole.code == 0, whole.err
    real = loop.set_learning_rate

    def kill(optimizer: Any, config: Any, now: int) -> None:
        real(optimizer, config, now)
        if now == 6:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "set_learning_rate", kill)
        assert mtl("train", "--resume", "other", "--iterations", 8, *ON).code == 130
    resumed = mtl("train", "--resume", "other", *ON)
    assert resumed.code == 0, resumed.err
    assert resumed.err == ""
    assert equal(checkpoint.read(Path("other")), checkpoint.read(base))
    logs = [[{k: v for k, v in x.items() if k != "speed"} for x in read_log(run)]
            for run in (base, Path("other"))]  # fmt: skip
    assert logs[0] == logs[1]
    assert [line["iteration"] for line in logs[0]] == list(range(1, 9))
    powers = [1e-3 * (1 - i / 8) ** 0.9 for i in range(4, 8)]
    assert [line["lr"] for line in logs[0][4:]] == pytest.approx(powers)
    assert record("other")["lengths"] == record(str(base))["lengths"]


def test_run_json_tells_the_lengths_and_the_line_says_so(base: Path, mtl) -> None:
    answer = mtl("train", "--resume", "base", "--iterations", 5, *ON)
    assert (answer.code, answer.err.count("\n")) == (0, 1)
    assert "from iteration 4 to 5 (before: 4)" in answer.err
    assert mtl("train", "--resume", "base", "--iterations", 5, *ON).err == ""
    assert mtl("train", "--resume", "base", "--iterations", 6, *ON).code == 0
    told = record(str(base))
    assert told["config"]["iterations"] == 6
    assert told["lengths"] == [{"from": 0, "iterations": 4}, {"from": 4, "iterations": 5},
                               {"from": 5, "iterations": 6}]  # fmt: skip
    assert checkpoint.read(base)["config"]["iterations"] == 6


def test_a_recipes_run_departs_from_it_by_its_length(base: Path, mtl) -> None:
    path = base / "run.json"
    told = json.loads(path.read_text())
    told["recipe"] = {"name": "nyud/hrnet18/demt", "overrides": {}}
    path.write_text(json.dumps(told))
    assert mtl("train", "--resume", "base", "--iterations", 5, *ON).code == 0
    assert record(str(base))["recipe"]["overrides"]["iterations"] == [5, 40_000]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--iterations", 3), "fewer than the 4"),
        (("--iterations", 0), "fewer than the 4"),
        (("--iterations", 9, "--lr", 0.5), "--lr is 0.001 there"),
    ],
)
def test_what_cannot_be_extended_stays_as_it_was(base: Path, mtl, options, named) -> None:
    before = {p.name: p.read_bytes() for p in base.iterdir()}
    answer = mtl("train", "--resume", "base", *options, *ON)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert named in answer.err
    assert {p.name: p.read_bytes() for p in base.iterdir()} == before
