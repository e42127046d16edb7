"""Guards, what a run tells about itself, and options that change speed or memory only."""

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtlcli.data.batches import Share, TrainingStream
from mtlcli.data.moments import IMAGENET
from mtlcli.data.reader import Reader
from mtlcli.errors import InputError, RunError
from mtlcli.models.deformable_attention import EVERY, offset_spread
from mtlcli.report.figures import collect
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import read_log
from mtlcli.training import loop as train
from mtlcli.training.clock import Clock
from mtlcli.training.failures import Divergence
from mtlcli.training.watches import WINDOW, CollapseWatch

TRAIN = ("train", "--dataset", "rooms", "--init", "random", "--device", "cpu", "--workers", 0,
         "--batch-size", 4, "--iterations", 3, "--quiet", "--task", "depth", "--task",
         "semseg")  # fmt: skip
ITSA = ("--steps", 1, "--width", 16, "--position-channels", 8, "--points", 2, "--feedforward", 16,
        "--query", "pixel")  # fmt: skip


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(folder)["network"]


def test_a_run_tells_where_its_time_and_its_points_go(home: Path, mtl) -> None:
    assert mtl(*TRAIN, *ITSA, "--out", "run").code == 0
    for line in read_log(home / "run"):
        assert line["speed"].keys() == {"step_s", "data_wait", "images_per_s", "eta_s", "memory_gb"}
        assert 0 <= line["speed"]["data_wait"] < 1
        (spread,) = line["offsets"].values()
        assert len(spread["pixels"]) == len(spread["outside"]) == 3
        assert spread["pixels"] == pytest.approx([1.5] * 3, abs=0.1)  # points 1 and 2 px away
        assert spread["outside"][0] < spread["outside"][2] < 1


def test_without_a_terminal_there_are_lines_now_and_then(home: Path, mtl, monkeypatch) -> None:
    loud = [word for word in (*TRAIN, *ITSA) if word != "--quiet"]
    rare = mtl(*loud, "--out", "rare").err
    assert [line.partition(",")[0] for line in rare.splitlines() if line.startswith("train: ")] == [
        "train: 1/3",
        "train: 3/3",
    ]
    assert "loss " in rare
    monkeypatch.setattr("mtlcli.training.log.SILENCE", 0.0)
    assert mtl(*loud, "--out", "often").err.count("train: ") == 3
    assert "train: " not in mtl(*TRAIN, *ITSA, "--out", "quiet").err


def test_the_clock_separates_waiting_from_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def slow() -> Any:
        for _ in range(4):
            now[0] += 1  # waiting
            yield None

    clock, read = Clock(torch.device("cpu"), 8), []
    for i, _ in enumerate(clock.count_waits(slow())):
        now[0] += 3  # computing
        if i % 2:
            read.append(clock.read(left=10))
    for figures in read:
        assert figures["data_wait"] == 0.25
        assert figures["step_s"] == 4
        assert figures["images_per_s"] == 2
        assert figures["eta_s"] == 40


def test_the_spread_of_offsets_is_that_of_a_plain_loop() -> None:
    torch.manual_seed(0)
    shapes = [(6, 8), (3, 4), (6, 8), (3, 4)]
    reference, offsets = torch.rand(20, 2), 4 * torch.randn(2, 20, 2, 4, 3, 2)
    pixels: dict[tuple[int, int], list[float]] = {shape: [] for shape in shapes}
    outside: dict[tuple[int, int], list[bool]] = {shape: [] for shape in shapes}
    for n in range(0, 20, EVERY):
        for head in range(2):
            for level, (height, width) in enumerate(shapes):
                for point in range(3):
                    dx, dy = offsets[0, n, head, level, point].tolist()
                    x, y = reference[n, 0] * width + dx, reference[n, 1] * height + dy
                    pixels[height, width].append(float(np.hypot(dx, dy)))
                    outside[height, width].append(not (0 <= x <= width and 0 <= y <= height))
    found = offset_spread(reference, offsets, shapes)
    for values, expected in zip(found, (pixels, outside)):
        assert values.tolist() == pytest.approx([np.mean(expected[s]) for s in shapes[:2]])


def lines_of(values: list[float]) -> list[dict[str, Any]]:
    return [{"iteration": i + 1, "loss": {"depth": v}} for i, v in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1 / (1 + 0.1 * i) for i in range(300)], None),
        ([1 + 0.3 * np.sin(i) - 0.002 * i for i in range(300)], None),
        ([1 - 0.005 * i for i in range(100)] + [1.0] * 100, "is back at 1"),
        ([1 + 0.001 * (i % 3) for i in range(300)], "has not fallen"),
    ],
)
def test_a_loss_that_collapses_is_noticed_once(values: list[float], said: str | None) -> None:
    watch = CollapseWatch("Lower --lr.", {})
    news = [sentence for line in lines_of(values) for sentence in watch.read(line)]
    assert len(news) == (said is not None)
    if said:
        assert said in news[0]
        assert "depth" in news[0]
        assert news[0].endswith("Lower --lr.")


@pytest.mark.parametrize("noise", [0.1, 0.3, 0.45])
@pytest.mark.parametrize(
    ("trend", "said"),
    [
        (0.3 + 0.7 * np.exp(-np.arange(600) / 30), None),
        (np.linspace(1, 0.7, 600), None),
        (np.r_[np.linspace(1, 0.3, 100), np.linspace(0.3, 0.5, 100), np.full(400, 0.4)], None),
        (np.r_[np.linspace(1, 0.2, 300), np.ones(300)], "is back at"),
    ],
)
def test_noise_is_no_collapse_and_hides_none(noise: float, trend: np.ndarray, said) -> None:
    """Losses of small batches: log-normal about a trend, as the rooms' saliency has them."""
    generator = np.random.default_rng(0)
    for _ in range(10):
        watch = CollapseWatch("", {})
        values = (trend * generator.lognormal(0, noise, len(trend))).tolist()
        news = [sentence for line in lines_of(values) for sentence in watch.read(line)]
        assert len(news) == (said is not None)
        assert not said or said in news[0]


def test_points_outside_the_maps_are_noticed() -> None:
    watch = CollapseWatch("", {})
    line = {"iteration": 1, "loss": {}, "offsets": {"a": {"pixels": [9], "outside": [0.5, 0.97]}}}
    assert watch.read(line) == []
    line["offsets"]["a"]["outside"] = [0.95, 0.97]  # type: ignore[index]
    assert "95%" in watch.read(line)[0]
    assert watch.read(line) == []


@pytest.mark.parametrize(
    ("task", "values", "said"),
    [
        ("semseg", [0.2, 0.6, 0.31], None),
        ("semseg", [0.2, 0.6, 0.29], "semseg went from 0.6 to 0.29"),
        ("depth", [2.0, 0.8, 1.59], None),
        ("depth", [2.0, 0.8, 1.61], "depth went from 0.8 to 1.61"),
        ("depth", [2.0, float("nan"), 0.5, 0.9], None),
    ],
)
def test_a_held_out_metric_twice_as_bad_as_its_best_is_noticed_once(
    task: str, values: list[float], said: str | None
) -> None:
    watch = CollapseWatch("", {"semseg": True, "depth": False})
    lines = [{"iteration": i, "loss": {}, "holdout": {task: v}} for i, v in enumerate(values)]
    news = [watch.read(line) for line in [*lines, lines[-1]]]
    assert news[: len(lines) - 1] + news[len(lines) :] == [[]] * len(lines)
    assert len(news[len(lines) - 1]) == (said is not None)
    assert not said or said in news[len(lines) - 1][0]


def test_notices_depend_on_the_log_alone() -> None:
    lines = lines_of([1 - 0.005 * i for i in range(100)] + [1.0] * WINDOW * 2)
    whole, first, second = (CollapseWatch("", {}) for _ in range(3))
    expected = [whole.read(line) for line in lines]
    before = [first.read(line) for line in lines[:105]]
    for line in lines[:105]:
        second.read(line)
    assert before + [second.read(line) for line in lines[105:]] == expected


def test_divergence_names_the_iteration_at_which_it_happened(home: Path) -> None:
    reader = Reader(home / "datasets" / "rooms.h5", "train")
    stream = TrainingStream(reader, {}, (48, 64), (1.0, 1.0), seed=0, moments=IMAGENET)
    config = RunConfig(batch_size=2)
    divergence = Divergence(("a", "b"), torch.device("cpu"))
    good, bad = torch.tensor(1.0), torch.tensor(torch.inf)
    for iteration, (a, b) in enumerate([(good, good), (good, bad), (bad, good)], start=1):
        divergence.watch({"a": a, "b": b}, iteration)
    ids = ", ".join(reader.ids[stream.index(p)] for p in (2, 3))
    with pytest.raises(RunError, match=rf"loss of b is not finite at iteration 2 \(images {ids}\)"):
        divergence.check(stream, config)


@pytest.mark.parametrize(("parts", "world"), [(1, 1), (2, 1), (1, 3), (2, 3), (6, 2)])
def test_shares_are_the_whole_batch_and_nothing_twice(parts: int, world: int) -> None:
    shares = [Share(batch_size=12, parts=parts, rank=r, world=world) for r in range(world)]
    taken = [list(share.positions(3, 5)) for share in shares]
    assert all(len(lists) == 2 * parts for lists in taken)
    for i in range(2):
        own = [p for lists in taken for part in lists[i * parts : (i + 1) * parts] for p in part]
        assert sorted(own) == list(range((3 + i) * 12, (4 + i) * 12))


@pytest.mark.parametrize("system", ["demt_itsa", "multi_task"])
@pytest.mark.parametrize("backbone", ["hrnet18", "swin_t"])
def test_computing_activations_again_changes_no_bit(
    home: Path, mtl, system: str, backbone: str
) -> None:
    options = ITSA if system == "demt_itsa" else ()
    for name, extra in (("kept", ()), ("again", ("--checkpointing",))):
        chosen = ("--system", system, "--backbone", backbone, "--iterations", 2, *options)
        answer = mtl(*TRAIN, *chosen, *extra, "--out", name)
        assert answer.code == 0, answer.err
    kept, again = weights_of(home / "kept"), weights_of(home / "again")
    assert all(torch.equal(kept[key], again[key]) for key in kept)


def test_half_precision_trains_and_resumes(home: Path, mtl) -> None:
    assert mtl(*TRAIN, *ITSA, "--amp", "--out", "half").code == 0
    assert mtl(*TRAIN, *ITSA, "--out", "full").code == 0
    assert json.loads((home / "half" / "run.json").read_text())["config"]["amp"] is True
    assert json.loads((home / "full" / "run.json").read_text())["config"]["amp"] is False
    half, full = (read_log(home / name)[0]["loss"] for name in ("half", "full"))
    assert half != full
    assert half == pytest.approx(full, rel=0.05)
    assert all(w.dtype != torch.bfloat16 for w in weights_of(home / "half").values())
    assert mtl("train", "--resume", "half", "--no-amp").code == 2


def test_a_batch_in_parts_gives_nearly_the_same_losses(home: Path, mtl) -> None:
    assert mtl(*TRAIN, *ITSA, "--out", "whole").code == 0
    assert mtl(*TRAIN, *ITSA, "--accumulate", 2, "--out", "parts").code == 0
    whole, parts = (read_log(home / name)[0]["loss"] for name in ("whole", "parts"))
    assert whole != parts  # each part has batch statistics of its own
    assert whole == pytest.approx(parts, rel=0.2)


def test_deterministic_lasts_as_long_as_the_run(home: Path, mtl, monkeypatch) -> None:
    seen: list[bool] = []
    interrupt(monkeypatch, lambda: seen.append(torch.are_deterministic_algorithms_enabled()))
    assert mtl(*TRAIN, *ITSA, "--deterministic", "--iterations", 1, "--out", "run").code == 0
    assert seen == [True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_dry_run_counts_memory_and_writes_nothing(home: Path, mtl) -> None:
    plain = mtl(*TRAIN, *ITSA, "--dry-run")
    assert plain.code == 0, plain.err
    assert "parameters" in plain.out
    assert not (home / "weights").exists()
    again = mtl(*TRAIN, *ITSA, "--dry-run", "--checkpointing")

    def per_image(text: str) -> float:
        number, unit = text.split(" per image")[0].split()[-2:]
        return float(number) * {"GB": 1e9, "MB": 1e6}[unit]

    assert per_image(again.out) < per_image(plain.out)
    large = mtl(*TRAIN, *ITSA, "--dry-run", "--batch-size", 4096, "--size", 1024, 1024)
    assert "does not fit: use --accumulate" in large.out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--accumulate", 3), "--accumulate 3 does not divide --batch-size 4"),
        (("--accumulate", 0), "--accumulate 0"),
        (("--compile", "--checkpointing"), "--compile and --checkpointing"),
    ],
)
def test_options_that_do_not_fit_each_other(home: Path, mtl, options, named: str) -> None:
    answer = mtl(*TRAIN, *options)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert named in answer.err


def interrupt(monkeypatch: pytest.MonkeyPatch, action: Any) -> None:
    monkeypatch.setattr(train, "set_learning_rate", lambda *_: action())


def test_out_of_memory_says_what_to_lower(home: Path, mtl, monkeypatch) -> None:
    def no_memory() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmuch more")

    interrupt(monkeypatch, no_memory)
    answer = mtl(*TRAIN, *ITSA)
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    for option in ("--batch-size 4", "--size 48 64", "--accumulate 2", "--checkpointing", "--amp"):
        assert option in answer.err


def test_a_loader_process_that_dies_is_one_line(home: Path, mtl, monkeypatch) -> None:
    def kill() -> None:
        for process in multiprocessing.active_children():
            os.kill(process.pid or 0, signal.SIGKILL)

    interrupt(monkeypatch, kill)
    answer = mtl(*TRAIN, *ITSA, "--workers", 1, "--iterations", 60, "--out", "run")
    assert (answer.code, answer.err.count("\n")) == (1, 1)
    assert "mtl train --resume run" in answer.err


def test_an_error_in_a_loader_process_is_one_line(home: Path, mtl, monkeypatch) -> None:
    def damaged(self: Reader, index: int) -> None:
        raise InputError(f"{self.path}: sample {index} is damaged; prepare it again.")

    monkeypatch.setattr(Reader, "__getitem__", damaged)
    answer = mtl(*TRAIN, *ITSA, "--workers", 1)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert answer.err.startswith("mtl: ")
    assert "is damaged; prepare it again." in answer.err
    assert "Traceback" not in answer.err


def test_curves_collect_what_the_log_holds() -> None:
    lines = [
        {"iteration": 1, "loss": {"a": 2.0}, "lr": 0.1,
         "offsets": {"x.steps.0.attention": {"pixels": [1, 2], "outside": [0, 0.5]}}},
        {"iteration": 5, "loss": {"a": 1.0}, "lr": 0.05},
    ]  # fmt: skip
    panels = collect(lines)
    assert panels["loss"] == {"a": ([1, 5], [2.0, 1.0])}
    assert panels["offsets (pixels)"] == {"step 1 /1": ([1], [1]), "step 1 /2": ([1], [2])}
