"""Whatever fails: one line, an exit code, no process left behind, and what was done is kept."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mtlcli.data import loading, shared_memory
from mtlcli.data.reader import Reader
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import read_log
from mtlcli.training import log as logs
from mtlcli.training import loop as train
from mtlcli.training.failures import out_of_memory, savings, smaller
from mtlcli.training.rescue import stopping
from mtlcli.training.watches import CollapseWatch, OffsetWatch
from tests.same_runs import equal

TRAIN = ("train", "--dataset", "rooms", "--init", "random", "--device", "cpu", "--batch-size", 2,
         "--backbone", "resnet18_half", "--system", "multi_task", "--task", "depth", "--task",
         "semseg", "--size", 32, 40, "--quiet")  # fmt: skip
ITSA = ("--system", "demt_itsa", "--steps", 1, "--width", 16, "--position-channels", 8, "--points",
        2, "--feedforward", 16, "--query", "pixel")  # fmt: skip
BROKEN = """
import sys
from dataclasses import replace
from mtlcli import cli
from mtlcli.experiments import _run as experiment, rooms_systems
from mtlcli.scoring import measure as scoring
from mtlcli.training import loop as train
from mtlcli.data import batches

def fail(*_):
    raise ZeroDivisionError("made to fail")

def fail_later(optimizer, config, iteration):
    iteration == 2 and fail()

rooms_systems.EXPERIMENT = replace(rooms_systems.EXPERIMENT, pictures=None)
{patch}
cli.main()
"""
WORKER, LOOP = "batches.augment = fail", "train.set_learning_rate = fail_later"
EVAL = "scoring.at_size = fail"
GRID = ("experiment", "rooms_systems", "--cell", "multi_task", "--seed", 0, "--device", "cpu")


def living(session: int) -> list[str]:
    """Processes of a session, but for those that only wait to be forgotten."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, own = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(own) == session and state != "Z":
            found.append(stat.parent.name)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("patch", "arguments", "said"),
    [
        (WORKER, (*TRAIN, "--iterations", 9), "rooms.h5, train sample '"),
        (LOOP, (*TRAIN, "--iterations", 9, "--out", "run"), "saved at iteration 2"),
        (EVAL, (*TRAIN, "--iterations", 2, "--holdout", 0.5), "saved at iteration 1"),
        (WORKER, (*TRAIN, "--iterations", 9, "--seeds", 2, "--out", "all"), "--resume all\n"),
        (LOOP, (*GRID, "--quiet"), "iteration 2; continue: mtl experiment rooms_systems\n"),
    ],
    ids=["worker", "loop", "evaluation", "seeds", "experiment"],
)
def test_an_error_nobody_foresaw_ends_all_processes(
    home: Path, patch: str, arguments: tuple, said: str
) -> None:
    command = [sys.executable, "-c", BROKEN.format(patch=patch), *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            err = process.communicate(timeout=100)[1]
        finally:
            left = living(process.pid)
            for pid in left:
                os.kill(int(pid), signal.SIGKILL)
    assert (process.returncode, err.count("\n")) == (1, 1), err
    assert "ZeroDivisionError: made to fail" in err
    assert said in err
    assert left == []


def fail(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("made to fail")


def test_a_run_that_fails_in_a_pass_goes_on_as_if_it_had_not(
    home: Path, mtl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch normalisation and dropout of the pass that failed leave no trace."""
    options = (*TRAIN, *ITSA, "--workers", 0, "--iterations", 4)
    assert mtl(*options, "--out", "whole").code == 0
    real, calls = train.labels_anywhere, []

    def fail_third(*given: Any) -> torch.Tensor:
        calls.append(given)
        return real(*given) if len(calls) != 3 else fail()

    with monkeypatch.context() as patch:
        patch.setattr(train, "labels_anywhere", fail_third)
        failed = mtl(*options, "--out", "failed")
    assert (failed.code, failed.err.count("\n")) == (1, 1)
    assert checkpoint.read(home / "failed")["iteration"] == 2
    assert mtl("train", "--resume", "failed", "--workers", 0, "--quiet").code == 0
    assert equal(checkpoint.read(home / "whole"), checkpoint.read(home / "failed"))
    losses = [[line["loss"] for line in read_log(home / name)] for name in ("whole", "failed")]
    assert losses[0] == losses[1]


def test_a_step_that_was_half_done_is_not_saved(home: Path, mtl, monkeypatch) -> None:
    def spoil(self: Any, optimizer: Any) -> None:
        with torch.no_grad():
            next(iter(optimizer.param_groups[0]["params"])).add_(1)
        fail()

    monkeypatch.setattr(torch.amp.GradScaler, "step", spoil)
    answer = mtl(*TRAIN, "--workers", 0, "--iterations", 3, "--out", "run")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert checkpoint.read(home / "run")["iteration"] == 0


def test_what_only_tells_of_a_run_never_ends_it(home: Path, mtl, monkeypatch) -> None:
    monkeypatch.setattr(CollapseWatch, "read", fail)
    monkeypatch.setattr(OffsetWatch, "read", fail)
    monkeypatch.setattr(logs, "progress_text", fail)
    answer = mtl(*TRAIN, "--workers", 0, "--iterations", 3, "--out", "run")
    assert answer.code == 0, answer.err
    told = [line for line in answer.err.splitlines() if "ZeroDivisionError" in line]
    assert len(told) == 3  # each once
    assert len(read_log(home / "run")) == 3


def test_a_sample_that_cannot_be_used_is_named(home: Path, mtl, monkeypatch) -> None:
    reader = Reader(home / "datasets" / "rooms.h5", "train")
    real = Reader.__getitem__
    monkeypatch.setattr(Reader, "__getitem__", lambda self, i: fail() if i == 5 else real(self, i))
    for workers in (0, 1):
        answer = mtl(*TRAIN, "--workers", workers, "--iterations", 9)
        assert (answer.code, answer.err.count("\n")) == (1, 1)
        assert f"train sample '{reader.ids[5]}' cannot be used: ZeroDivisionError" in answer.err


@pytest.mark.parametrize(
    ("room", "way"),
    [(50, (2, 2)), (49, (2, 1)), (30, (2, 1)), (29, (1, 1)), (20, (1, 1)), (19, (0, 2))],
)
def test_as_much_is_prepared_in_advance_as_there_is_room_for(room: int, way: tuple) -> None:
    workers, ahead = shared_memory.plan(2, 1, 10, room)
    assert (workers, ahead) == way
    assert workers == 0 or (workers * ahead + 1) * 10 <= room


def test_too_little_shared_memory_is_told_once_and_works(home: Path, mtl, monkeypatch) -> None:
    monkeypatch.setattr(shared_memory, "free", lambda: 20_000)
    answer = mtl(*TRAIN, "--workers", 2, "--iterations", 2, "--out", "run")
    assert (answer.code, answer.err.count("\n")) == (0, 1), answer.err
    assert "/dev/shm has room for 0 MB" in answer.err
    monkeypatch.setattr(shared_memory, "free", lambda: 10**9)
    again = mtl(*TRAIN, "--workers", 2, "--iterations", 2, "--out", "roomy")
    assert again.err == ""
    same = (checkpoint.read(home / name)["network"] for name in ("run", "roomy"))
    assert equal(next(same), next(same))
    monkeypatch.setattr(shared_memory, "free", lambda: 64 * 2**20)
    assert "shm-size" in mtl("doctor").out


def test_shared_memory_that_fills_later_is_one_line(home: Path, mtl, monkeypatch) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_1>: "
            "No space left on device (28)"
        )

    monkeypatch.setattr(loading, "share", full)
    answer = mtl(*TRAIN, "--workers", 1, "--iterations", 2)
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "/dev/shm is full" in answer.err
    assert "--workers 0" in answer.err


def test_a_batch_that_cannot_be_sent_is_not_waited_for(home: Path, mtl, monkeypatch) -> None:
    monkeypatch.setattr(loading, "share", lambda samples: {"image": lambda: None})
    answer = mtl(*TRAIN, "--workers", 1, "--iterations", 2)
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "Batches cannot be prepared" in answer.err


def test_too_many_open_files_are_called_so(home: Path, mtl, monkeypatch) -> None:
    def no_more(*_: Any) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(train, "set_learning_rate", no_more)
    answer = mtl(*TRAIN, "--workers", 0, "--iterations", 2)
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "ulimit -n" in answer.err


def test_the_last_resort_is_one_line_and_a_traceback_on_demand(
    home: Path, mtl, monkeypatch
) -> None:
    def fail_in_lines() -> None:
        raise ValueError("two\nlines")

    monkeypatch.setattr("mtlcli.runs.health.examine", fail_in_lines)
    answer = mtl("doctor")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "ValueError: two lines" in answer.err
    monkeypatch.setenv("MTL_DEBUG", "1")
    assert "Traceback" in mtl("doctor").err


def test_a_name_that_is_too_long_is_one_short_line(home: Path, mtl) -> None:
    answer = mtl("eval", "x" * 5000)
    assert answer.code in (1, 2)
    assert answer.err.count("\n") == 1
    assert "Traceback" not in answer.err


def test_nobody_reading_is_no_failure_to_talk_of() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "mtlcli", "recipes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_a_run_in_another_thread_is_left_to_the_main_one_to_stop() -> None:
    def ask() -> bool:
        with stopping() as asked:
            return asked()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(ask).result() is False


def test_what_saves_memory_is_nothing_that_would_be_refused() -> None:
    usual = RunConfig(size=(64, 96), batch_size=8)
    assert savings(usual) == ["--accumulate 2", "--checkpointing", "--amp"]
    for options, expected in (
        ({"compile": True}, ["--accumulate 2", "--amp"]),
        ({"weighting": "dwa"}, ["--checkpointing", "--amp"]),
        ({"weighting": "pcgrad"}, ["--checkpointing"]),
        ({"accumulate": 8, "amp": True, "checkpointing": True}, []),
    ):
        config = replace(usual, **options)
        assert savings(config) == expected
        said = out_of_memory(config)
        assert all((option in said) == (option in expected) for option in savings(usual))
    assert smaller(usual) == "--batch-size 4"
    assert smaller(replace(usual, batch_size=6, accumulate=2)) == "--batch-size 2"
    assert smaller(replace(usual, batch_size=1)) == "--size 32 48"


@pytest.mark.parametrize("done", [0, 2])
def test_the_command_after_too_little_memory_is_taken(home: Path, mtl, monkeypatch, done) -> None:
    def no_memory(optimizer: Any, config: Any, iteration: int) -> None:
        if iteration == done:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(train, "set_learning_rate", no_memory)
    answer = mtl(*TRAIN, "--workers", 0, "--iterations", 4, "--out", "run")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert f"saved at iteration {done}; begin another: " in answer.err
    command = answer.err.strip().partition("begin another: mtl ")[2].split()
    assert ("--from" in command) == (done > 0)
    planned = mtl(*command, "--dry-run", "--device", "cpu")
    assert planned.code == 0, planned.err
    assert "1 images at once" in planned.out


@pytest.mark.parametrize("name", ["best.pt", "iteration_4.pt"])
def test_a_run_is_not_resumed_from_another_checkpoint_than_its_last(base, mtl, name: str) -> None:
    (base / name).write_bytes((base / "last.pt").read_bytes())
    answer = mtl("train", "--resume", base / name)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert f"--resume {base})" in answer.err
    assert f"--from {base / name}" in answer.err
