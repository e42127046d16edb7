"""Options of how a network is trained, against their formulas; each of them resumes exactly."""

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mtlcli.data import augment
from mtlcli.data.hdf5 import Info
from mtlcli.models.deformable_attention import DeformableAttention
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import read_log
from mtlcli.runs.health import judge
from mtlcli.runs.run import Run
from mtlcli.training import batch, selection
from mtlcli.training import loop as train
from mtlcli.training.average import Average
from mtlcli.training.backbone import freeze, set_training
from mtlcli.training.log import remedy
from mtlcli.training.memory import Need, estimate
from mtlcli.training.schedule import learning_rate, set_learning_rate
from mtlcli.training.setup import make_optimizer
from mtlcli.training.watches import OffsetWatch
from tests.same_runs import equal, log_of
from tests.test_distributed import mtl_in

TRAIN = ("train", "--dataset", "rooms", "--init", "random", "--device", "cpu", "--workers", 0,
         "--batch-size", 2, "--iterations", 4, "--quiet", "--task", "depth", "--task", "normals",
         "--system", "multi_task", "--backbone", "resnet18_half")  # fmt: skip
KEPT = ("--checkpoint-every", 1, "--keep", 9)
HABITS = {
    "rate": ("--backbone-lr-factor", 0.1),
    "frozen": ("--freeze-backbone",),
    "warmup": ("--warmup", 3),
    "cosine": ("--schedule", "cosine"),
    "clip": ("--clip", 0.5),
    "ema": ("--ema", 0.9),
    "val": ("--val-every", 1),
    "patience": ("--holdout", 0.25, "--val-every", 1, "--patience", 3),
    "auto": ("--batch-size", "auto"),
    "all": ("--backbone-lr-factor", 0.1, "--warmup", 3, "--schedule", "cosine", "--clip", 0.5,
            "--ema", 0.9, "--holdout", 0.25, "--val-every", 1, "--patience", 3, "--zoom", 0.8, 1.25,
            "--batch-size", "auto", "--optimizer", "adamw", "--weighting", "uncertainty"),
    "all, frozen": ("--freeze-backbone", "--warmup", 1, "--clip", 0.5, "--ema", 0.5,
                    "--accumulate", 2, "--val-every", 2, "--amp"),
}  # fmt: skip


def saved(folder: Path, iteration: int | None = None) -> dict[str, Any]:
    return checkpoint.read(
        folder / ("last.pt" if iteration is None else f"iteration_{iteration}.pt")
    )


@pytest.mark.parametrize("name", HABITS)
def test_a_run_cut_short_and_resumed_is_the_one_never_interrupted(home, mtl, name: str) -> None:
    answer = mtl(*TRAIN, *HABITS[name], *KEPT, "--out", "run")
    assert answer.code == 0, answer.err
    run = home / "run"
    whole, log = saved(run), log_of(run)
    best = checkpoint.read(run / "best.pt") if (run / "best.pt").exists() else None
    (run / "last.pt").write_bytes((run / "iteration_2.pt").read_bytes())
    resumed = mtl("train", "--resume", "run", "--workers", 0, "--quiet")
    assert resumed.code == 0, resumed.err
    assert equal(saved(run), whole)
    assert log_of(run) == log
    assert best is None or equal(checkpoint.read(run / "best.pt"), best)
    config = json.loads((run / "run.json").read_text())["config"]
    words = " ".join(map(str, HABITS[name])).split("--")[1:]
    for option, _, value in (word.strip().partition(" ") for word in words):
        found = config[option.replace("-", "_")]
        written = " ".join(map(str, found)) if isinstance(found, list) else str(found)
        assert written == value or value in ("", "auto"), option


def test_a_stopped_run_with_all_of_them_goes_on_bit_for_bit(home, mtl, monkeypatch) -> None:
    real = train.set_learning_rate

    def set_and_stop(optimizer: Any, config: Any, now: int) -> None:
        real(optimizer, config, now)
        if now == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    assert mtl(*TRAIN, *HABITS["all"], "--out", "whole").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(train, "set_learning_rate", set_and_stop)
        assert mtl(*TRAIN, *HABITS["all"], "--out", "cut").code == 130
    assert saved(home / "cut")["iteration"] == 3
    assert mtl("train", "--resume", "cut", "--workers", 0, "--quiet").code == 0
    assert equal(saved(home / "whole"), saved(home / "cut"))
    assert log_of(home / "whole") == log_of(home / "cut")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {0: 1, 5: 0.5**0.9, 9: 0.1**0.9}),
        ({"power": 2.0, "warmup": 2}, {0: 0.5, 1: 1, 2: 1, 6: 0.25, 9: 1 / 64}),
        ({"schedule": "cosine"}, {0: 1, 5: 0.5, 9: math.sin(math.pi / 20) ** 2}),
        ({"schedule": "cosine", "warmup": 4}, {0: 0.25, 2: 0.75, 4: 1, 6: 0.75, 7: 0.5, 8: 0.25}),
    ],
)
def test_the_rate_rises_linearly_and_falls_as_the_schedule_says(options, expected) -> None:
    config = RunConfig(iterations=10, lr=0.2, **options)
    found = {i: learning_rate(config, i) / 0.2 for i in expected}
    assert found == pytest.approx(expected)
    longer = RunConfig(iterations=20, lr=0.2, **options)
    assert learning_rate(longer, 9) > learning_rate(config, 9)  # iterations alone are its length


def build(system: str) -> nn.Module:
    dataset = Info.from_json({"name": "x", "title": "x", "size": [48, 64], "classes": {},
                              "palettes": {}})  # fmt: skip
    config = RunConfig(system=system, backbone="resnet18_half", tasks=("depth", "normals"))
    return checkpoint.build_network(config, dataset)


@pytest.mark.parametrize("system", ["multi_task", "single_task"])
def test_the_backbone_of_every_network_learns_at_its_share_of_the_rate(system: str) -> None:
    network = build(system)
    config = RunConfig(iterations=10, lr=0.2, warmup=4, backbone_lr_factor=0.25)
    optimizer = make_optimizer(network, nn.Module(), config, torch.device("cpu"))
    set_learning_rate(optimizer, config, 1)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        assert rates[parameter] == pytest.approx(0.025 if "backbone." in name else 0.1), name


def test_the_neck_of_a_backbone_learns_with_the_rest() -> None:
    network = nn.Module()
    network.backbone, network.head = nn.Module(), nn.Linear(2, 2)
    network.backbone.body, network.backbone.neck = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    config = RunConfig(backbone_lr_factor=0.5, lr=1.0)
    optimizer = make_optimizer(network, nn.Module(), config, torch.device("cpu"))
    set_learning_rate(optimizer, config, 0)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    freeze(network)
    set_training(network, frozen=True)
    for name, parameter in network.named_parameters():
        assert rates[parameter] == (0.5 if "body" in name else 1.0)
        assert parameter.requires_grad == ("body" not in name)
    assert network.backbone.neck.training
    assert not network.backbone.body.training


@pytest.mark.parametrize("system", ["multi_task", "single_task"])
def test_a_frozen_backbone_keeps_every_bit_and_the_rest_learns(home, mtl, system: str) -> None:
    options = ("--freeze-backbone", "--system", system, "--ema", 0.9, "--weight-decay", 0.1)
    assert mtl(*TRAIN, *options, *KEPT, "--val-every", 1, "--out", "run").code == 0
    first, last = saved(home / "run", 1), saved(home / "run")
    for key in ("raw", "network"):
        for name, value in last[key].items():
            same = torch.equal(first[key][name], value)
            assert same == ("backbone." in name) or "num_batches" in name, (key, name)
    for name, value in last["raw"].items():
        if "backbone." in name and "running_mean" in name:
            assert not value.any()  # as it began
        if "num_batches_tracked" in name:
            assert value == (0 if "backbone." in name else 4)
    held = sum(len(group["params"]) for group in last["optimizer"]["param_groups"])
    assert held == sum("backbone." not in name for name, _ in build(system).named_parameters())


@pytest.mark.parametrize("more", [(), ("--accumulate", 2), ("--weighting", "upgrad")])
def test_a_long_gradient_shrinks_to_the_norm_and_a_short_one_stays(
    home: Path, mtl, monkeypatch: pytest.MonkeyPatch, more
) -> None:
    if "upgrad" in more:
        pytest.importorskip("torchjd", reason="extra [surgery] is not installed")
    seen: list[torch.Tensor] = []
    real = torch.amp.GradScaler.step

    def look(self: Any, optimizer: Any) -> Any:
        params = optimizer.param_groups[0]["params"]
        seen.append(torch.cat([p.grad.flatten() for p in params]).double())
        return real(self, optimizer)

    monkeypatch.setattr(torch.amp.GradScaler, "step", look)
    for clip in ((), ("--clip", 0.01), ("--clip", 1e6)):
        assert mtl(*TRAIN, "--iterations", 1, *clip, *more).code == 0
    free, short, loose = seen
    assert torch.linalg.vector_norm(free) > 0.01
    expected = free * 0.01 / torch.linalg.vector_norm(free)
    assert torch.allclose(short, expected, rtol=1e-4, atol=1e-9)
    assert torch.equal(loose, free)


def test_the_average_is_the_recursion_in_numpy() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    average = Average(network, 0.6)
    expected = {n: v.double().numpy().copy() for n, v in network.state_dict().items()}
    for step in range(12):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(torch.randn(2, 3, 4, 4))
        average.update(earlier=step)
        decay = min(0.6, (1 + step) / (10 + step))
        for name, now in network.state_dict().items():
            mixed = decay * expected[name] + (1 - decay) * now.double().numpy()
            expected[name] = now.numpy() if "num_batches" in name else mixed
    for name, value in average.weights.items():
        assert np.allclose(value.numpy(), expected[name], atol=1e-5), name
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with average.in_network():
        assert equal(dict(network.state_dict()), average.weights)
    assert equal(dict(network.state_dict()), before)


def test_every_command_gets_the_average_and_training_goes_on_from_the_weights(home, mtl) -> None:
    assert mtl(*TRAIN, "--out", "plain").code == 0
    assert mtl(*TRAIN, "--ema", 0.9, "--val-every", 2, *KEPT, "--out", "run").code == 0
    run, last = home / "run", saved(home / "run")
    assert equal(last["raw"], saved(home / "plain")["network"])  # an average moves nothing
    first, mean = saved(run, 3)["network"], {}
    for name, now in last["raw"].items():
        mixed = 4 / 13 * first[name] + 9 / 13 * now  # three steps were made before
        mean[name] = mixed if now.is_floating_point() else now
    for name, value in last["network"].items():
        assert torch.allclose(value, mean[name], atol=1e-6), name
    assert not equal(last["network"], last["raw"])
    assert equal(dict(checkpoint.load(run, "cpu").network.state_dict()), last["network"])
    assert mtl("pack", "run", "--out", "small").code == 0
    small = dict(checkpoint.load(home / "small", "cpu").network.half().state_dict())
    assert all(torch.equal(small[n], v.half()) for n, v in last["network"].items() if v.ndim)
    assert mtl("eval", "run", "--workers", 0, "--device", "cpu").code == 0
    scored = json.loads((run / "results.json").read_text())["main"]
    assert read_log(run)[-1]["holdout"] == pytest.approx(scored, rel=1e-6)


def test_looking_at_val_changes_and_chooses_nothing(home: Path, mtl) -> None:
    assert mtl(*TRAIN, "--out", "blind").code == 0
    assert mtl(*TRAIN, "--val-every", 3, "--out", "run").code == 0
    assert equal(saved(home / "blind")["network"], saved(home / "run")["network"])
    assert [line["iteration"] for line in read_log(home / "run") if "holdout" in line] == [3, 4]
    assert not (home / "run" / "best.pt").exists()


@pytest.fixture
def worse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out errors fall until iteration 2 and rise from then on."""

    def scores(self: selection.Selection) -> dict[str, float]:
        at = self.state.iteration
        return dict.fromkeys(self.tasks, 1.0 + 0.1 * abs(at - 2))

    monkeypatch.setattr(selection.Selection, "_score", scores)


PATIENT = ("--iterations", 9, "--holdout", 0.25, "--val-every", 1, "--patience", 3)


def test_a_run_ends_when_patience_does_and_is_finished(home: Path, mtl, worse: None) -> None:
    answer = mtl(*TRAIN, *PATIENT, "--out", "run")
    assert (answer.code, answer.err.count("\n")) == (0, 1)
    for said in ("iteration 5 of 9", "--patience 3", "best.pt is of iteration 2"):
        assert said in answer.err
    run = home / "run"
    assert saved(run)["iteration"] == 5
    assert checkpoint.read(run / "best.pt")["iteration"] == 2
    assert Run.read(run).is_finished
    assert judge(run)[0] == "whole"
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    again = mtl("train", "--resume", "run", "--workers", 0, "--quiet")
    assert (again.code, again.err) == (0, answer.err)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_patience_may_end_with_the_run_and_then_it_is_not_extended(
    home: Path, mtl, worse: None
) -> None:
    assert mtl(*TRAIN, *PATIENT, "--iterations", 5, "--out", "run").code == 0
    before = (home / "run" / "run.json").read_bytes()
    answer = mtl("train", "--resume", "run", "--iterations", 9)
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert "--patience ended the run at iteration 5" in answer.err
    assert (home / "run" / "run.json").read_bytes() == before


def test_patience_counts_on_after_a_cut(home: Path, mtl, worse: None) -> None:
    assert mtl(*TRAIN, *PATIENT, *KEPT, "--out", "run").code == 0
    run = home / "run"
    whole, log = saved(run), log_of(run)
    (run / "last.pt").write_bytes((run / "iteration_4.pt").read_bytes())
    assert mtl("train", "--resume", "run", "--workers", 0, "--quiet").code == 0
    assert equal(saved(run), whole)
    assert log_of(run) == log


def test_a_series_knows_that_its_runs_ended_early(home: Path, mtl, worse: None) -> None:
    assert mtl(*TRAIN, *PATIENT, "--seeds", 2, "--out", "runs").code == 0
    before = [(home / f"runs/seed{i}/results.json").stat().st_mtime_ns for i in (0, 1)]
    assert mtl("train", "--resume", "runs", "--workers", 0, "--quiet").code == 0
    assert [(home / f"runs/seed{i}/results.json").stat().st_mtime_ns for i in (0, 1)] == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        *((("--backbone-lr-factor", v), "--backbone-lr-factor") for v in ("nan", "inf", 0, -1)),
        *((("--clip", v), "--clip") for v in ("nan", "inf", 0, -1)),
        *((("--ema", v), "--ema") for v in ("nan", "inf", 0, 1, -1)),
        *((("--power", v), "--power") for v in ("nan", "inf", -1)),
        *((("--zoom", *v), "--zoom") for v in ((2, 1), (0, 1), (1, 11), ("nan", 1), (1, "nan"))),
        (("--momentum", "nan"), "--momentum"),
        (("--weight-decay", "nan"), "--weight-decay"),
        (("--warmup", -1), "--warmup"),
        (("--warmup", 4), "--warmup 4"),
        (("--val-every", 0), "--val-every"),
        (("--patience", 2), "--holdout"),
        (("--patience", 2, "--val-every", 1), "--holdout"),
        (("--patience", 0, "--holdout", 0.25), "--patience"),
        (("--freeze-backbone", "--backbone-lr-factor", 0.1), "--freeze-backbone"),
        (("--freeze-backbone", "--weighting", "gradnorm"), "--freeze-backbone"),
        (("--schedule", "cosine", "--power", 2), "--power 2"),
        (("--batch-size", 0), "--batch-size"),
        (("--batch-size", -1), "--batch-size"),
        (("--batch-size", "many"), "--batch-size many"),
        (("--batch-size", "auto", "--accumulate", 9), "--batch-size auto"),
        (("--weighting", "gradnorm", "--system", "single_task"), "single_task has none"),
        *(
            (("--weighting", name, "--accumulate", 2), "leave --accumulate away")
            for name in ("uncertainty", "dwa", "gradnorm", "geometric")
        ),
        (("--batch-size", "auto", "--seeds", 2, "--jobs", 2), "--batch-size auto"),
        (("--tensorboard", "--logger", "wandb"), "--logger wandb"),
    ],
)
def test_what_makes_no_sense_is_one_line(home: Path, mtl, options, named: str) -> None:
    answer = mtl(*TRAIN, *options, "--out", "run")
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer.err
    assert named in answer.err
    assert not (home / "run").exists()


def test_auto_is_what_the_free_memory_holds_and_stands_in_the_record(
    home: Path, mtl, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(*more: object) -> int:
        more = ("--iterations", 1, *more)
        assert mtl(*TRAIN, "--batch-size", "auto", *more, "--out", "run").code == 0
        number = json.loads((home / "run" / "run.json").read_text())["config"]["batch_size"]
        mtl(*TRAIN, "--batch-size", number, *more, "--out", "same")
        assert equal(saved(home / "run"), saved(home / "same"))
        for name in ("run", "same"):
            for path in (home / name).iterdir():
                path.unlink()
        return number

    config = RunConfig(dataset="rooms", system="multi_task", backbone="resnet18_half",
                       tasks=("depth", "normals"), size=(48, 64), batch_size=1)  # fmt: skip
    need = estimate(config, batch.Reader("datasets/rooms.h5", "train").info, torch.device("cpu"))

    def leave(images: float) -> None:
        room = need.fixed + images * batch.WORKING * need.per_image
        monkeypatch.setattr(batch, "free_memory", lambda device: room / batch.USABLE)

    leave(3.5)
    assert chosen() == 3
    assert chosen("--accumulate", 2) == 6
    leave(1e6)
    assert chosen() == 8  # pictures there are
    assert chosen("--holdout", 0.25) == 6
    leave(0.5)
    answer = mtl(*TRAIN, "--batch-size", "auto")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "--checkpointing" in answer.err


def test_a_run_is_resumed_with_the_number_that_was_found(home: Path, mtl) -> None:
    assert mtl(*TRAIN, "--batch-size", "auto", "--out", "run").code == 0
    answer = mtl("train", "--resume", "run", "--batch-size", "auto")
    assert answer.code == 2
    assert "--batch-size is 8 there, not auto" in answer.err


def test_on_a_gpu_the_number_is_tried(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need = Need(parameters=1, fixed=0, per_image=1, there=100, batch=1, measured=True)
    tried: list[int] = []

    def fits(config: Any, reader: Any, device: Any, images: int) -> bool:
        tried.append(images)
        return images <= 6

    monkeypatch.setattr(batch, "estimate", lambda *_: need)
    monkeypatch.setattr(batch, "fits", fits)
    reader = batch.Reader("datasets/rooms.h5", "train")
    assert batch.find_batch(RunConfig(batch_size=-1), reader, torch.device("cuda")) == 6
    assert tried == [8, 7, 6]


def test_a_try_is_a_whole_step_and_leaves_room(home: Path, monkeypatch) -> None:
    """As on a GPU, with its counters made up."""
    seen: list[int] = []
    real = torch.optim.AdamW.step
    config = RunConfig(dataset="rooms", system="multi_task", backbone="resnet18_half",
                       tasks=("depth", "semseg"), size=(48, 64), batch_size=-1,
                       freeze_backbone=True, optimizer="adamw")  # fmt: skip
    reader, cpu = batch.Reader("datasets/rooms.h5", "train"), torch.device("cpu")

    def look(self: Any, *given: Any) -> Any:
        held = [p for group in self.param_groups for p in group["params"]]
        seen.append(sum(p.grad is not None for p in held))
        return real(self, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", look)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(batch, "device_memory", lambda device: 100)
    for peak, fit in ((80, True), (95, False)):
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device, peak=peak: peak)
        assert batch.fits(config, reader, cpu, 2) == fit
    assert len(seen) == 2
    assert min(seen) > 0

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(batch, "place", full)
    assert not batch.fits(config, reader, cpu, 2)


def test_a_dataset_of_one_picture_has_none_to_hold_out(home: Path, mtl, monkeypatch) -> None:
    monkeypatch.setattr(batch.Reader, "__len__", lambda self: 1)
    answer = mtl(*TRAIN, "--batch-size", 1, "--holdout", 0.1, "--out", "run")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "--holdout 0.1 leaves no picture" in answer.err
    assert not (home / "run").exists()


SMALL = ("--system", "demt_itsa", "--steps", 1, "--width", 16, "--position-channels", 8,
         "--points", 2, "--feedforward", 16, "--query", "pixel", "--iterations", 1)  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--optimizer", "adamw", "--gradient-scale", 50), 1),
        (("--optimizer", "adamw"), 0),
        (("--gradient-scale", 50), 0),
    ],
)
def test_a_gradient_scale_without_effect_is_said_once(home, mtl, options, said: int) -> None:
    answer = mtl(*TRAIN, *SMALL, *options)
    assert answer.code == 0, answer.err
    assert answer.err.count("--gradient-scale") == said
    assert answer.err.count("\n") == said


def test_a_gradient_scale_that_nobody_typed_is_not_told_of(home, mtl) -> None:
    assert mtl(*TRAIN, *SMALL, "--gradient-scale", 50, "--out", "sgd").code == 0
    again = mtl("train", "--like", "sgd", "--optimizer", "adamw", "--quiet", "--out", "adamw")
    assert (again.code, again.err) == (0, "")


def test_offsets_that_are_watched_are_those_of_training() -> None:
    """An evaluation between the pass and its line of the log changes nothing."""
    layer = DeformableAttention(8, maps=1, heads=2, points=3)
    watch, rows = OffsetWatch(nn.ModuleDict({"attention": layer})), torch.rand(2, 35, 8)
    places = torch.rand(35, 2)
    watch.look(True)
    layer(rows, places, rows, [(5, 7)])
    assert layer.seen is not None
    training = [values.tolist() for values in layer.seen]
    with torch.no_grad():
        layer.sampling.bias.add_(3)
        layer.eval()(rows, places, rows, [(5, 7)])
    assert [values.tolist() for values in layer.seen] == training
    assert watch.read().keys() == {"attention"}


def test_the_remedy_for_a_collapse_names_no_scale_under_adamw() -> None:
    settings = {"gradient_scale": 50.0}
    assert "--gradient-scale" in remedy(RunConfig(settings=settings))
    assert "--gradient-scale" not in remedy(RunConfig(settings=settings, optimizer="adamw"))


def test_two_processes_do_as_one_with_all_of_them(home: Path, mtl) -> None:
    options = ("--batch-size", 4, "--iterations", 2, "--clip", 0.5, "--ema", 0.9, "--accumulate",
               2, "--lr", 0.01, "--freeze-backbone", "--val-every", 1)  # fmt: skip
    assert mtl(*TRAIN, *options, "--accumulate", 1, "--out", "one").code == 0
    answers = mtl_in(2, *TRAIN, *options, "--accumulate", 1, "--out", "two")
    assert [a.returncode for a in answers] == [0, 0], answers[0].stderr
    one, two = saved(home / "one"), saved(home / "two")
    for key in ("network", "raw"):
        for name, value in one[key].items():
            assert torch.allclose(two[key][name], value, rtol=1e-3, atol=1e-4), name
    scores = [read_log(home / name)[-1]["holdout"] for name in ("one", "two")]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


def test_pictures_of_training_are_scaled_within_zoom(home: Path, mtl, monkeypatch) -> None:
    drawn, draw = [], augment.random_view

    def draw_and_keep(*given: Any) -> Any:
        drawn.append(draw(*given))
        return drawn[-1]

    monkeypatch.setattr(augment, "random_view", draw_and_keep)
    assert mtl(*TRAIN, "--zoom", 0.95, 1.05, "--out", "run").code == 0
    assert len(drawn) >= 4 * 2
    assert all(0.95 <= view.zoom <= 1.05 for view in drawn)
    assert len({view.zoom for view in drawn}) > 1
