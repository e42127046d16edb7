"""`--tensorboard` shows what log.jsonl holds, once each, also after a resume."""

import warnings
from pathlib import Path
from typing import Any

import pytest

from mtlcli.runs.folder import read_log
from mtlcli.training.log import scalars

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


def shown(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What a reader of the event files sees: curve -> (iteration, value)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


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


def test_the_board_shows_the_log_once_after_a_resume(home: Path, mtl) -> None:
    pytest.importorskip("tensorboard", reason="extra [tb] is not installed")
    answer = mtl(*TRAIN, "--iterations", 4, "--keep", 2, "--tensorboard", "--out", "run")
    assert answer.code == 0, answer.err
    run = home / "run"
    (run / "last.pt").write_bytes((run / "iteration_2.pt").read_bytes())
    resumed = mtl("train", "--resume", "run", "--workers", 0, "--quiet", "--tensorboard")
    assert resumed.code == 0, resumed.err
    lines: list[dict[str, Any]] = read_log(run)
    expected: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for name, value in scalars(line).items():
            expected.setdefault(name, []).append((line["iteration"], pytest.approx(value)))
    assert shown(run) == expected
    assert "held-out metric/depth" in expected
    assert any(name.startswith("offsets in pixels/") for name in expected)


def test_a_missing_package_is_one_line_before_anything_is_written(
    home: Path, mtl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtlcli.training.log.find_spec", lambda name: None)
    answer = mtl(*TRAIN, "--iterations", 1, "--tensorboard", "--out", "run")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "pip install" in answer.err
    assert not (home / "run").exists()
