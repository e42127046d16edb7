"""The script for a GPU runs, writes down what it finds at once, and knows a wrong operator."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from mtlcli.ops import reference

SCRIPT = Path(__file__).parent / "gpu/check.py"


def run(
    out: Path, seconds: int, *words: str
) -> tuple[subprocess.CompletedProcess, list[dict[str, Any]]]:
    """The script in its small form, and the results that it wrote down."""
    done = subprocess.run(
        [
            sys.executable,
            SCRIPT,
            "--out",
            out,
            "--seconds",
            str(seconds),
            "--device",
            "cpu",
            "--tiny",
            *words,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[2])},
        timeout=280,
    )
    return done, [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_checks_every_operator_of_the_device_and_trains_the_recipe(tmp_path: Path) -> None:
    done, results = run(tmp_path, 280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert results[0]["torch"] == torch.__version__
    checked = [r for r in results if "errors" in r]
    assert {r["operator"] for r in checked} == {"reference", "gather", "grid_sample", "numba"}
    assert {r["border"] for r in checked} == {"clamp", "zeros"}
    assert all(r["ok"] and len(r["errors"]) == 4 for r in checked)
    assert {r["operator"] for r in results if "absent" in r} == {"triton", "cuda"}
    (trained,) = [r for r in results if "iteration_ms" in r]
    assert trained["first_iteration_s"] > 0
    assert trained["recipe_hours"] == pytest.approx(trained["iteration_ms"] / 90, abs=0.01)
    assert "numba bf16: right" in done.stdout
    parts = {(r["dtype"], r["part"]) for r in results if "part" in r and r["ms"] > 0}
    assert parts >= {("bf16", "forward"), ("bf16", "backward"), ("fp32", "backward")}
    assert {r["ceiling"] for r in results if "ceiling" in r} >= {"copy", "matrix product bf16"}
    (sampled,) = [r for r in results if "channels" in r]
    assert sampled["ok"]
    assert len(sampled["distances"]) == 3
    assert "sampled channels: right and repeatable" in done.stdout
    habits = {r["habit"]: r["ok"] for r in results if "habit" in r}
    assert habits == dict.fromkeys(habits, True)
    assert {"parts of a projection", "repeats"} <= set(habits)
    (ratios,) = [r for r in results if "ratios" in r]
    assert ratios["ratios"]["forward_backward"]["vs_sdpa_bf16"] > 0
    (step,) = [r for r in results if "step_ms" in r]
    assert 0 < step["share"]["deformable attention"] < 1
    assert {"backbone", "mixers", "sampling of mixers"} <= set(step["share"])
    assert "itsa pixel: a step of 2" in done.stdout
    took = {r["stage"]: r["took_s"] for r in results if "took_s" in r}
    assert list(took) == ["kernels", "operators", "habits", "attention", "steps", "train_cold"]
    assert all(seconds > 0 for seconds in took.values())
    assert done.stdout.splitlines()[-1].startswith("train_cold: first iteration")


def test_what_does_not_fit_the_time_is_left_out_with_a_line(tmp_path: Path) -> None:
    began = time.monotonic()
    done, results = run(tmp_path, 40)
    assert done.returncode == 0, done.stderr
    stages = ["machine", "kernels", "operators", "habits", "attention", "steps", "train_cold"]
    assert [r["stage"] for r in results] == stages
    assert all("left" in r["skipped"] for r in results[1:])
    assert time.monotonic() - began < 200


def test_stages_can_be_chosen(tmp_path: Path) -> None:
    done, results = run(tmp_path, 200, "--stages", "habits")
    assert done.returncode == 0, done.stderr
    assert {r["stage"] for r in results} == {"machine", "habits"}
    done = subprocess.run(
        [sys.executable, SCRIPT, "--out", tmp_path, "--stages", "habit"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, "no stage habit" in done.stderr) == (2, True)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module
    spec.loader.exec_module(module)
    return module


def scaled(*args: Any) -> Tensor:
    return 1.001 * reference.deformable_attention(*args)


def unwritten(*args: Any) -> Tensor:
    out = reference.deformable_attention(*args)
    return torch.cat((out[:, :-1], torch.full_like(out[:, -1:], torch.nan)), 1)


def frozen(value: Tensor, shapes: Any, points: Tensor, offsets: Tensor, *rest: Any) -> Tensor:
    """Right but for the gradient of the offsets."""
    moved = offsets.detach() + 0 * offsets
    return reference.deformable_attention(value, shapes, points, moved, *rest)


def broken(*args: Any) -> Tensor:
    raise RuntimeError("PassManager::run failed\nand more")


@pytest.mark.parametrize("operator", [scaled, unwritten, frozen, broken])
def test_a_wrong_operator_is_told_from_a_right_one(
    operator: Callable[..., Tensor], script: ModuleType
) -> None:
    torch.manual_seed(0)
    problem = script.Problem(script.SHAPES[0], torch.float32, torch.device("cpu"))
    wanted = problem.run(reference.deformable_attention, "clamp", exact=True)
    right = script.judged(problem, reference.deformable_attention, "clamp", wanted, 5e-5)
    wrong = script.judged(problem, operator, "clamp", wanted, 5e-5)
    assert right["ok"] is True
    assert wrong["ok"] is False
    json.loads(json.dumps(wrong))
    if "errors" in wrong:
        row = {"operator": "cuda", "dtype": "fp32"}
        assert "WRONG in 1 of 2" in "\n".join(script.worst([row | right, row | wrong]))
