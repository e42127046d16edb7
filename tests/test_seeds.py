"""Runs from several seeds: each a run of its own, scored, resumable, and their mean and spread."""

import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch

from mtlcli.errors import InputError
from mtlcli.experiments._seeds import Series
from mtlcli.runs import checkpoint
from mtlcli.runs.folder import held, read_log
from mtlcli.training import loop as train
from tests.made_runs import write_run

OPTIONS = ("--dataset", "rooms", "--init", "random", "--device", "cpu", "--workers", 0,
           "--batch-size", 2, "--iterations", 2, "--quiet", "--task", "depth", "--system",
           "multi_task", "--backbone", "resnet18_half")  # fmt: skip


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(run)["network"]


def same(a: Path, b: Path) -> bool:
    return all(torch.equal(weights(a)[key], value) for key, value in weights(b).items())


def test_each_seed_is_the_run_of_that_seed_and_scored(home: Path, mtl) -> None:
    answer = mtl("train", *OPTIONS, "--seed", 3, "--seeds", 2, "--out", "runs", "--json")
    assert answer.code == 0, answer.err
    assert mtl("train", *OPTIONS, "--seed", 4, "--out", "one").code == 0
    assert same(home / "runs" / "seed4", home / "one")
    assert not same(home / "runs" / "seed3", home / "one")
    record = json.loads(answer.out)
    scores = [
        json.loads((home / "runs" / f"seed{k}" / "results.json").read_text())["main"]["depth"]
        for k in (3, 4)
    ]
    assert [run["depth"] for run in record["runs"].values()] == scores
    assert record["mean"]["depth"] == pytest.approx(statistics.mean(scores))
    assert record["deviation"]["depth"] == pytest.approx(statistics.stdev(scores))
    assert json.loads((home / "runs" / "results.json").read_text()) == record


def is_trained(run: Path) -> bool:
    """Whether a process holds its folder."""
    try:
        with held(run):
            return False
    except InputError:
        return True


def stop_at(monkeypatch: pytest.MonkeyPatch, seed: int, iteration: int) -> None:
    real = train.set_learning_rate

    def set_and_stop(optimizer: Any, config: Any, now: int) -> None:
        real(optimizer, config, now)
        if (config.seed, now) == (seed, iteration):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train, "set_learning_rate", set_and_stop)


def test_a_stopped_series_goes_on_where_it_was(home: Path, mtl, monkeypatch) -> None:
    whole = mtl("train", *OPTIONS, "--seeds", 3, "--out", "whole", "--json")
    with monkeypatch.context() as patch:
        stop_at(patch, seed=1, iteration=0)
        stopped = mtl("train", *OPTIONS, "--seeds", 3, "--out", "cut")
    assert (stopped.code, stopped.err.count("\n")) == (130, 1)
    assert "seed 1: stopped at iteration 1 of 2" in stopped.err
    assert stopped.err.endswith("mtl train --resume cut\n")
    before = (home / "cut" / "seed0" / "last.pt").stat().st_mtime_ns
    resumed = mtl("train", "--resume", "cut", "--workers", 0, "--quiet", "--json")
    assert resumed.code == 0, resumed.err
    assert (home / "cut" / "seed0" / "last.pt").stat().st_mtime_ns == before
    assert same(home / "cut" / "seed1", home / "whole" / "seed1")
    assert json.loads(resumed.out)["runs"] == json.loads(whole.out)["runs"]


def test_seeds_side_by_side_are_those_one_after_the_other(home: Path, mtl) -> None:
    for out, jobs in (("one", 1), ("two", 2)):
        answer = mtl("train", *OPTIONS, "--seeds", 2, "--jobs", jobs, "--out", out, "--json")
        assert answer.code == 0, answer.err
    one, two = (json.loads((home / out / "results.json").read_text()) for out in ("one", "two"))
    for run, scores in one["runs"].items():  # on other numbers of threads, so nearly
        assert two["runs"][run] == pytest.approx(scores, rel=1e-5)


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGINT])
def test_runs_side_by_side_end_with_their_parent(home: Path, way: signal.Signals) -> None:
    long = ["--seeds", "2", "--jobs", "2", "--out", "runs", "--iterations", "5000"]
    command = [sys.executable, "-m", "mtlcli", "train", *map(str, OPTIONS), *long]
    with subprocess.Popen(
        command, cwd=home, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        runs = [home / "runs" / f"seed{k}" for k in (0, 1)]
        deadline = time.monotonic() + 180
        while not all(map(read_log, runs)):  # before its first checkpoint a run just ends
            assert time.monotonic() < deadline
            time.sleep(0.1)
        parent.send_signal(way)
        said = parent.communicate(timeout=120)[1]  # the children hold no pipe of the parent's
    for run in runs:
        while way is signal.SIGKILL and is_trained(run):
            assert time.monotonic() < deadline + 60
            time.sleep(0.1)
        assert not is_trained(run)
        assert checkpoint.read(run)["iteration"] >= read_log(run)[-1]["iteration"]
    if way is signal.SIGINT:
        assert parent.returncode == 130
        assert said.endswith("mtl train --resume runs\n")


def test_more_seeds_later_keep_those_there_are(home: Path, mtl) -> None:
    assert mtl("train", *OPTIONS, "--seeds", 1, "--out", "runs").code == 0
    (home / "runs" / "seed0" / "results.json").write_text("{}")  # to be scored again
    again = ("train", "--resume", "runs", "--workers", 0, "--quiet")
    more = mtl(*again, "--seeds", 2)
    assert more.code == 0, more.err
    assert "±" in more.out
    assert "seed1" in more.out
    for options, named in (
        (("--seeds", 1), "--seeds is 2 there"),
        (("--iterations", 5), "--iterations is 2 there, not 5"),
        (("--seed", 1), "--seed is 0 there, not 1"),
    ):
        refused = mtl(*again, *options)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert named in refused.err


def test_one_run_is_no_series(home: Path, mtl) -> None:
    assert mtl("train", *OPTIONS, "--out", "run").code == 0
    refused = mtl("train", "--resume", "run", "--seeds", 2)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--seeds" in refused.err


def test_a_score_that_is_missing_does_not_count(tmp_path: Path) -> None:
    values = {"seed0": 1.0, "seed1": 2.0, "seed2": 6.0, "seed3": math.nan}
    series = Series(folder=tmp_path, scores={run: {"depth": v} for run, v in values.items()})
    for run in values:
        write_run(tmp_path / run, {"depth": values[run]})
    record = series.to_json()
    assert record["mean"]["depth"] == 3.0
    assert record["deviation"]["depth"] == pytest.approx(math.sqrt(7))  # (4 + 1 + 9) / (3 - 1)
    assert record["runs"]["seed3"]["depth"] is None
    assert "3.0000 ± 2.6458" in series.table().splitlines()[-1]


def test_seeds_that_could_not_be_scored_are_not_begun(home: Path, mtl) -> None:
    """A dataset may lack the split on which the runs of a series are scored."""
    file = shutil.copy(home / "datasets" / "rooms.h5", home / "datasets" / "only.h5")
    with h5py.File(file, "r+") as opened:
        del opened["val"]
        opened.attrs["expected"] = json.dumps({"train": len(opened["train/ids"])})
        opened.attrs["name"] = json.dumps("only")
    line = ("train", "--dataset", "only", "--init", "random", "--backbone", "resnet18_half")
    answer = mtl(
        *line, "--system", "multi_task", "--iterations", 1, "--seeds", 2, "--out", "series"
    )
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert "no split 'val'" in answer.err
    assert not (home / "series").exists()
