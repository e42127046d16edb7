"""A run that is stopped, killed or refused: files stay whole, and going on changes nothing."""

import importlib.util
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import pytest
import torch

from mtlcli.runs import checkpoint
from mtlcli.runs.folder import cut_log, read_log
from mtlcli.runs.run import Run
from mtlcli.training import loop as train
from mtlcli.training import state as states
from tests.same_runs import equal, log_of

KILLS = int(os.environ.get("MTL_KILLS", "3"))
BENCH = Path(__file__).parent / "bench" / "bench_resume.py"
SMALL = ("--system", "demt_itsa", "--steps", 1, "--width", 16, "--position-channels", 8,
         "--points", 2, "--feedforward", 16, "--query", "pixel")  # fmt: skip
TRAIN = ("train", "--dataset", "rooms", "--init", "random", "--device", "cpu", "--workers", 0,
         "--batch-size", 2, "--task", "depth", "--task", "semseg", "--checkpoint-every", 2,
         "--iterations", 6, "--quiet", *SMALL)  # fmt: skip


def signal_at(monkeypatch: pytest.MonkeyPatch, iteration: int, number: int, workers: bool) -> None:
    """Sends a signal while an iteration is computed, to the loader's processes too if wanted."""
    real = train.set_learning_rate

    def set_and_signal(optimizer: Any, config: Any, now: int) -> None:
        real(optimizer, config, now)
        if now == iteration:
            for process in multiprocessing.active_children() if workers else ():
                os.kill(process.pid, number)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(train, "set_learning_rate", set_and_signal)


@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGTERM, 1)]
)
def test_a_stopped_run_saves_and_goes_on_bit_for_bit(
    home: Path, mtl, monkeypatch: pytest.MonkeyPatch, number: int, workers: int
) -> None:
    assert mtl(*TRAIN, "--out", "whole").code == 0
    with monkeypatch.context() as patch:
        signal_at(patch, 2, number, workers=bool(workers))
        stopped = mtl(*TRAIN, "--out", "stopped", "--workers", workers)
    assert stopped.code == 130
    assert stopped.err.count("\n") == 1
    assert "mtl train --resume stopped" in stopped.err
    assert checkpoint.read(home / "stopped")["iteration"] == 3
    resumed = mtl("train", "--resume", "stopped", "--quiet", "--workers", 0)
    assert resumed.code == 0, resumed.err
    assert equal(checkpoint.read(home / "whole"), checkpoint.read(home / "stopped"))
    assert log_of(home / "whole") == log_of(home / "stopped")


@pytest.mark.timeout(300 + 60 * KILLS)
def test_runs_killed_at_random_moments_end_with_the_same_weights() -> None:
    work = subprocess.run(
        [sys.executable, str(BENCH), "--kills", str(KILLS)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert work.returncode == 0, work.stderr
    assert json.loads(work.stdout)["equal"]


def test_the_comparison_of_killed_runs_can_fail() -> None:
    spec = importlib.util.spec_from_file_location("bench_resume", BENCH)
    assert spec
    assert spec.loader
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    one = {"network": {"a": torch.zeros(3)}, "iteration": 1}
    assert bench.same(one, {"network": {"a": torch.zeros(3)}, "iteration": 1})
    other = {"network": {"a": torch.tensor([0.0, 0.0, 1e-30])}, "iteration": 1}
    assert not bench.same(one, other)
    assert not bench.same([1], [1, 2])


def test_a_run_killed_before_its_first_checkpoint_starts_again(home: Path, mtl) -> None:
    assert mtl(*TRAIN, "--out", "whole").code == 0
    assert mtl(*TRAIN, "--out", "killed").code == 0
    (home / "killed" / "last.pt").unlink()
    assert mtl("train", "--resume", "killed", "--workers", 0, "--quiet").code == 0
    assert equal(checkpoint.read(home / "whole"), checkpoint.read(home / "killed"))
    assert log_of(home / "whole") == log_of(home / "killed")


def test_a_finished_run_stays_as_it_is(home: Path, mtl) -> None:
    assert mtl(*TRAIN, "--out", "run").code == 0
    before = {p.name: p.read_bytes() for p in (home / "run").iterdir() if p.suffix != ".png"}
    assert mtl("train", "--resume", "run/last.pt", "--workers", 0).code == 0
    after = {p.name: p.read_bytes() for p in (home / "run").iterdir() if p.suffix != ".png"}
    assert after == before


def test_the_newest_checkpoints_are_kept_by_their_iteration(home: Path, mtl) -> None:
    assert mtl(*TRAIN, "--out", "run", "--keep", 2).code == 0
    kept = sorted(p.name for p in (home / "run").glob("iteration_*.pt"))
    assert kept == ["iteration_4.pt", "iteration_6.pt"]
    assert checkpoint.read(home / "run" / "iteration_4.pt")["iteration"] == 4


def test_a_run_that_was_taken_back_keeps_the_newest_of_what_it_has_done(tmp_path: Path) -> None:
    for number in (1, 2, 3, 8, 9):
        (tmp_path / f"iteration_{number}.pt").touch()
    for name in ("last.pt", "iteration_best.pt"):
        (tmp_path / name).touch()
    states.State._keep(SimpleNamespace(folder=tmp_path, iteration=4), 2)
    kept = sorted(p.name for p in tmp_path.iterdir())
    assert kept == ["iteration_3.pt", "iteration_4.pt", "iteration_best.pt", "last.pt"]


def test_the_last_iteration_gets_its_line_though_the_run_was_stopped_after_it(base, mtl) -> None:
    """A run stopped at 4 of more, which is made one of 4."""
    whole = log_of(base)
    cut_log(base, 3)
    assert not Run.read(base).is_finished
    assert mtl("train", "--resume", base, "--workers", 0).code == 0
    own = ("iteration", "lr")
    assert [[line[n] for n in own] for line in log_of(base)] == [
        [line[n] for n in own] for line in whole
    ]
    assert log_of(base)[-1]["loss"] == {}
    assert Run.read(base).is_finished
    again = (base / "log.jsonl").read_text()
    assert mtl("train", "--resume", base, "--workers", 0).code == 0
    assert (base / "log.jsonl").read_text() == again


def test_the_log_is_cut_after_the_checkpoint_and_at_a_torn_line(tmp_path: Path) -> None:
    lines = b"".join(b'{"iteration": %d}\n' % i for i in range(1, 6))
    (tmp_path / "log.jsonl").write_bytes(lines + b'{"itera')
    cut_log(tmp_path, 9)
    assert (tmp_path / "log.jsonl").read_bytes() == lines
    cut_log(tmp_path, 3)
    assert [line["iteration"] for line in read_log(tmp_path)] == [1, 2, 3]


def test_a_folder_in_which_a_run_was_killed_at_once_can_be_used(home: Path, mtl) -> None:
    (home / "run").mkdir()
    (home / "run" / "run.json.part").write_text("{")
    refused = mtl("train", "--resume", "run")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "no run began there" in refused.err
    assert mtl(*TRAIN, "--out", "run", "--iterations", 1).code == 0


def test_infinite_weights_are_never_saved(home: Path, mtl, monkeypatch) -> None:
    real = states.State.save

    def spoil(self: states.State, keep: int = 0) -> None:
        if self.iteration == 4:
            with torch.no_grad():
                next(self.network.parameters()).view(-1)[0] = torch.nan
        real(self, keep)

    monkeypatch.setattr(states.State, "save", spoil)
    answer = mtl(*TRAIN, "--out", "run")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "not finite" in answer.err
    assert checkpoint.read(home / "run")["iteration"] == 2


@pytest.fixture
def run(home: Path, mtl) -> Path:
    assert mtl(*TRAIN, "--out", "run", "--iterations", 1).code == 0
    return home / "run"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--lr", 0.5, "--seed", 3), ("--lr is 0.001 there, not 0.5", "--seed is 0 there, not 3")),
        (("--steps", 2), ("--steps is 1 there, not 2",)),
        (("--task", "depth"), ("--task is depth semseg there, not depth",)),
        (("--size", 64, 64), ("--size is 48 64 there, not 64 64",)),
        (("--stepz", 2), ("Did you mean --steps?",)),
        (("--itertions", 2), ("Did you mean --iterations?",)),
        (("--out", "elsewhere"), ("leave --out away",)),
        (("--device", "tpu"), ("tpu",)),
        (("--checkpoint-every", 0), ("--checkpoint-every",)),
        (("--keep", -1), ("--keep",)),
    ],
)
def test_other_options_than_the_runs_are_named(run: Path, mtl, options, named) -> None:
    answer = mtl("train", "--resume", "run", *options)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    for words in named:
        assert words in answer.err


def test_the_same_options_again_are_no_others(run: Path, mtl) -> None:
    same = (
        "--lr",
        0.001,
        "--steps",
        1,
        "--task",
        "semseg",
        "--task",
        "depth",
        "--dataset",
        "rooms",
    )
    answer = mtl("train", "--resume", "run", *same, "--workers", 0)
    assert answer.code == 0, answer.err


def test_a_dataset_that_changed_since_is_refused(run: Path, home: Path, mtl) -> None:
    path = home / "datasets" / "rooms.h5"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    assert mtl("train", "--resume", "run", "--workers", 0).code == 0
    with h5py.File(path, "r+") as file:
        file["train/crc32/image"][3] += 1
    answer = mtl("train", "--resume", "run", "--workers", 0)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "rooms.h5 have changed" in answer.err


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"config": {}, "fingerprint": "", "dataset": {}, "device": ""}']
)
def test_a_record_that_is_none(home: Path, mtl, content: str) -> None:
    (home / "run").mkdir()
    (home / "run" / "run.json").write_text(content)
    answer = mtl("train", "--resume", "run")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "run.json" in answer.err


def test_a_full_disk_while_logging_is_one_line(
    home: Path, mtl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    answer = mtl(*TRAIN, "--out", "run")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "No space left on device" in answer.err


def test_options_of_the_command_line_default_to_those_of_the_record() -> None:
    import inspect
    from dataclasses import fields

    from mtlcli import cli
    from mtlcli.runs.config import Conduct, RunConfig

    shown = inspect.signature(cli.train.train).parameters
    for record in (RunConfig, Conduct):
        for field in fields(record):
            if field.name in shown and field.name not in ("recipe", "device"):
                assert shown[field.name].default == field.default, field.name
