"""`--logger` shows what log.jsonl holds, once each, also after a resume, and never ends a run."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtlcli.runs.folder import read_log
from mtlcli.training.loggers import scalars

TRAIN = ("train", "--dataset", "rooms", "--init", "random", "--device", "cpu", "--workers", 0,
         "--batch-size", 2, "--quiet", "--task", "depth", "--backbone", "resnet18_half",
         "--checkpoint-every", 2, "--holdout", 0.25, "--steps", 1, "--width", 16,
         "--position-channels", 8, "--points", 2, "--feedforward", 16, "--query",
         "pixel")  # fmt: skip
LINE = {
    "iteration": 3,
    "total": 2.5,
    "loss": {"a": 2.0},
    "lr": 0.1,
    "offsets": {"x": {"pixels": [1.0, 2.0], "outside": [0.0, 0.5]}},
    "holdout": {"a": 0.4},
    "gain": 10.0,
    "speed": {"step_s": 0.2},
}
Curves = dict[str, list[tuple[int, Any]]]


def shown(run: Path) -> Curves:
    """What a reader of the event files sees: curve -> (iteration, value)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def logged(run: Path) -> Curves:
    """The same of the log."""
    found: Curves = {}
    for line in read_log(run):
        for name, value in scalars(line).items():
            found.setdefault(name, []).append((line["iteration"], pytest.approx(value)))
    return found


def test_losses_rates_offsets_and_metrics_have_curves() -> None:
    assert scalars(LINE) == {
        "loss/a": 2.0,
        "loss/total": 2.5,
        "learning rate": 0.1,
        "offsets in pixels/x/1": 1.0,
        "offsets in pixels/x/2": 2.0,
        "points outside/x/1": 0.0,
        "points outside/x/2": 0.5,
        "held-out metric/a": 0.4,
        "held-out metric/gain in percent": 10.0,
        "speed/step_s": 0.2,
    }


@pytest.mark.parametrize("spelling", [("--logger", "tensorboard"), ("--tensorboard",)])
def test_the_board_shows_the_log_once_after_a_resume(home: Path, mtl, spelling) -> None:
    pytest.importorskip("tensorboard", reason="extra [tb] is not installed")
    answer = mtl(*TRAIN, "--iterations", 4, "--keep", 2, *spelling, "--out", "run")
    assert answer.code == 0, answer.err
    run = home / "run"
    (run / "last.pt").write_bytes((run / "iteration_2.pt").read_bytes())
    resumed = mtl("train", "--resume", "run", "--workers", 0, "--quiet")  # the record has it
    assert resumed.code == 0, resumed.err
    assert shown(run) == logged(run)
    assert "held-out metric/depth" in logged(run)
    assert any(name.startswith("offsets in pixels/") for name in logged(run))


def test_a_board_can_be_added_and_left_away_at_a_resume(home: Path, mtl) -> None:
    pytest.importorskip("tensorboard", reason="extra [tb] is not installed")
    assert mtl(*TRAIN, "--iterations", 2, "--out", "run").code == 0
    assert mtl("train", "--resume", "run", "--logger", "none", "--workers", 0).code == 0
    assert not (home / "run" / "tensorboard").exists()
    assert mtl("train", "--resume", "run", "--logger", "tensorboard", "--workers", 0).code == 0
    assert shown(home / "run") == logged(home / "run")


@pytest.mark.parametrize(("name", "extra"), [("tensorboard", "tb"), ("wandb", "wandb")])
def test_a_missing_package_is_one_line_before_anything_is_written(
    home: Path, mtl, monkeypatch: pytest.MonkeyPatch, name: str, extra: str
) -> None:
    for found in (None, SimpleNamespace(origin=None)):  # not there; a mere folder of that name
        monkeypatch.setattr("mtlcli.training.loggers.find_spec", lambda _, found=found: found)
        answer = mtl(*TRAIN, "--iterations", 1, "--logger", name, "--out", "run")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert f"pip install 'mtlcli[{extra}]'" in answer.err
        assert not (home / "run").exists()


class FakeWandb:
    """A wandb that knows only what mtl asks of it, and fails from the n-th call on."""

    def __init__(self, calls: int) -> None:
        self.calls, self.begun, self.lines = calls, [], []
        self.ended: list[int] = []

    def count(self) -> None:
        self.calls -= 1
        if self.calls < 0:
            raise ConnectionError("no\nnet")

    def init(self, **options: Any) -> "FakeWandb":
        self.count()
        self.begun.append(options)
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        self.count()
        self.lines.append((step, values))

    def finish(self, exit_code: int) -> None:
        self.count()
        self.ended.append(exit_code)


def use(fake: FakeWandb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    there = SimpleNamespace(origin="wandb")
    monkeypatch.setattr("mtlcli.training.loggers.find_spec", lambda name: there)


@pytest.mark.parametrize("calls", [0, 1, 2, 5])
def test_wandb_that_fails_is_one_notice_and_training_goes_on(
    home: Path, mtl, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    use(FakeWandb(calls), monkeypatch)
    answer = mtl(*TRAIN, "--iterations", 4, "--logger", "wandb", "--out", "run")
    assert (answer.code, answer.err.count("\n")) == (0, 1), answer.err
    assert "--logger wandb failed, training goes on" in answer.err
    assert len(read_log(home / "run")) == 4


def test_the_same_run_of_wandb_goes_on_with_the_lines_it_lacks(
    home: Path, mtl, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb(99)
    use(fake, monkeypatch)
    begin = (*TRAIN, "--iterations", 4, "--keep", 2)
    assert mtl(*begin, "--logger", "wandb", "--out", "run").code == 0
    run = home / "run"
    (run / "last.pt").write_bytes((run / "iteration_2.pt").read_bytes())
    assert mtl("train", "--resume", "run", "--workers", 0, "--quiet").code == 0
    first, second = fake.begun
    assert first["id"] == second["id"]
    assert {o["resume"] for o in fake.begun} == {"allow"}
    assert first["config"]["iterations"] == 4
    assert [step for step, _ in fake.lines] == [1, 2, 3, 4, 3, 4]
    for step, values in fake.lines:
        expected = scalars(read_log(run)[step - 1])
        assert {n: v for n, v in values.items() if "speed" not in n} == {
            n: v for n, v in expected.items() if "speed" not in n
        }
    assert fake.ended == [0, 0]


def test_wandb_itself_works_offline(home: Path) -> None:
    """In a process of its own: it stays in the one that it was used in."""
    pytest.importorskip("wandb", reason="extra [wandb] is not installed")
    environment = os.environ | {"WANDB_MODE": "offline", "MTL_HOME": str(home)}
    words = [*map(str, TRAIN), "--iterations", "2", "--logger", "wandb", "--out", "run"]
    work = subprocess.run(
        [sys.executable, "-m", "mtlcli", *words], capture_output=True, text=True, env=environment
    )
    assert (work.returncode, work.stderr) == (0, "")
    ident = (home / "run" / "wandb" / "id").read_text()
    (file,) = (home / "run" / "wandb").glob(f"offline-run-*/run-{ident}.wandb")
    assert b"held-out metric/depth" in file.read_bytes()
