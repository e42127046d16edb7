"""Held-out pictures choose the best iterate; weightings of losses do what their papers say."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mtlcli import tasks as known_tasks
from mtlcli.data import augment as augmenting
from mtlcli.data.augment import augment
from mtlcli.data.batches import TrainingStream
from mtlcli.data.moments import IMAGENET
from mtlcli.data.reader import Reader
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import read_log
from mtlcli.training import selection
from mtlcli.training.selection import mean_gain, split
from mtlcli.training.weightings import SURGERIES, WEIGHTINGS

TRAIN = ("train", "--dataset", "rooms", "--init", "random", "--device", "cpu", "--workers", 0,
         "--batch-size", 2, "--iterations", 4, "--quiet", "--task", "depth", "--task", "normals",
         "--system", "multi_task")  # fmt: skip
SMALL = (*TRAIN, "--backbone", "resnet18_half")
BETTER = {"a": SimpleNamespace(higher_is_better=True), "b": SimpleNamespace(higher_is_better=False)}


@pytest.mark.parametrize(("count", "share", "held"), [(795, 0.05, 40), (8, 0.05, 1), (8, 0, 0)])
def test_the_split_is_fixed_and_whole(count: int, share: float, held: int) -> None:
    kept, out = split(count, share)
    assert len(out) == held
    assert sorted(kept + out) == list(range(count))
    first = np.random.default_rng(7).permutation(count)[:held]
    assert out == sorted(first), "a run that was begun by an older version goes on with its own"


def test_held_out_pictures_are_never_trained_on(home: Path) -> None:
    reader = Reader(home / "datasets" / "rooms.h5", "train")
    kept, out = split(len(reader), 0.25)
    stream = TrainingStream(reader, {}, (48, 64), (1.0, 1.0), 0, kept, moments=IMAGENET)
    seen = {stream.index(position) for position in range(3 * len(kept))}
    assert seen == set(kept)
    assert not seen & set(out)


def test_the_stream_of_training_is_new_in_every_epoch(home: Path) -> None:
    """Another order, and another crop of the same picture: both from the seed and the place."""
    reader = Reader(home / "datasets" / "rooms.h5", "train")
    stream = TrainingStream(reader, {}, (48, 64), (1.0, 1.0), 5, moments=IMAGENET)
    orders = [[stream.index(8 * epoch + i) for i in range(8)] for epoch in range(4)]
    for epoch, order in enumerate(orders):
        assert order == np.random.default_rng((5, 0, epoch)).permutation(8).tolist()
    assert len(set(map(tuple, orders))) == 4
    for position in (0, 3, 8 + orders[1].index(orders[0][0])):
        sample, rng = reader[stream.index(position)], np.random.default_rng((5, 1, position))
        expected = augment(sample, {}, (48, 64), (1.0, 1.0), rng, IMAGENET)["image"]
        np.testing.assert_array_equal(stream[position]["image"], expected)


@pytest.mark.parametrize("scale", [(0.5, 0.5), (0.5, 0.25)])
def test_the_stream_of_training_is_at_the_working_resolution(
    home: Path, monkeypatch: pytest.MonkeyPatch, scale: tuple[float, float]
) -> None:
    """At zoom 1 a crop as large as the shrunken picture shows it whole, mirrored or not: each of
    its pixels has the label of a pixel of the cell that it stands for.
    """
    monkeypatch.setattr(augmenting, "SCALES", (1.0, 1.0))
    reader = Reader(home / "datasets" / "rooms.h5", "train")
    rows, columns = (round(1 / each) for each in scale)
    size = (48 // rows, 64 // columns)
    stream = TrainingStream(reader, known_tasks.named(["depth"]), size, scale, 0, moments=IMAGENET)
    for position in range(4):
        shown = stream[position]["depth"][0]
        stored = reader[stream.index(position)]["depth"]
        cells = stored.reshape(size[0], rows, size[1], columns).transpose(1, 3, 0, 2)
        cells = cells.reshape(-1, *size)
        assert any((cells[..., ::side] == shown).any(0).all() for side in (1, -1))


def test_crops_of_training_are_balanced_in_the_classes_of_things_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ATRC's cat_max_ratio looks at semantic segmentation, at what shows the picture."""
    seen: list[np.ndarray] = []
    monkeypatch.setattr(augmenting, "is_balanced", lambda classes: seen.append(classes) or True)
    reader = Reader(home / "datasets" / "rooms.h5", "train")
    tasks = known_tasks.named(["human_parts", "semseg", "depth"])
    stream = TrainingStream(reader, tasks, (32, 40), (1.0, 1.0), 0, moments=IMAGENET)
    crops = [stream[position]["semseg"] for position in range(6)]
    for crop, classes in zip(crops, seen, strict=True):
        np.testing.assert_array_equal(crop[crop != 255], classes.ravel())


def test_the_gain_is_relative_signed_and_finite() -> None:
    first = {"a": 0.5, "b": 2.0}
    assert mean_gain({"a": 0.6, "b": 2.0}, first, BETTER) == pytest.approx(10)
    assert mean_gain({"a": 0.5, "b": 1.0}, first, BETTER) == pytest.approx(25)
    assert mean_gain({"a": math.nan, "b": 1.0}, first, BETTER) == pytest.approx(50)
    assert mean_gain({"a": 0.6, "b": 1.0}, first | {"a": math.nan}, BETTER) == pytest.approx(50)
    assert mean_gain({"a": math.nan, "b": math.nan}, first, BETTER) == 0
    assert mean_gain({"a": 0.03, "b": 1.0}, {"a": 0.02, "b": 1.0}, BETTER) == pytest.approx(25)
    assert mean_gain({"a": 0.5, "b": 1.0}, {"a": 0.0, "b": 1.0}, BETTER) == 2500, "over 0.01"


@pytest.mark.parametrize(
    ("options", "due"),
    [
        ({"iterations": 1000}, list(range(50, 1001, 50))),
        ({"iterations": 1010}, [*range(50, 1001, 50), 1010]),
        ({"iterations": 7}, [1, 2, 3, 4, 5, 6, 7]),
        ({"iterations": 10, "val_every": 4}, [4, 8, 10]),
    ],
)
def test_a_run_is_scored_twenty_times_or_as_often_as_asked_and_at_its_end(
    tmp_path: Path, options: dict[str, int], due: list[int]
) -> None:
    config = RunConfig(**options)
    for pictures, expected in (([0], due), ([], [])):
        state = SimpleNamespace(config=config, folder=tmp_path)
        its = selection.Selection(state, pictures, {}, {}, 0)
        assert [i for i in range(1, config.iterations + 1) if its.is_due(i)] == expected


def test_best_is_the_iterate_with_the_highest_gain(home: Path, mtl, monkeypatch) -> None:
    real, worse = selection.Selection._score, {2: 0.5, 3: 2.0, 4: 0.5}

    def scores(self: selection.Selection) -> dict[str, float]:
        found = real(self)
        self.constant = getattr(self, "constant", found)
        return {n: v * worse.get(self.state.iteration, 1.0) for n, v in self.constant.items()}

    monkeypatch.setattr(selection.Selection, "_score", scores)
    answer = mtl(*TRAIN, "--holdout", 0.25, "--out", "run")
    assert answer.code == 0, answer.err
    assert checkpoint.read(home / "run" / "best.pt")["iteration"] == 2  # both errors halved, first
    assert [line["gain"] for line in read_log(home / "run")] == pytest.approx([0, 50, -100, 50])
    assert mtl("eval", "run/best.pt", "--workers", 0).code == 0


def test_selection_goes_on_after_a_kill_as_if_nothing_had_been(home: Path, mtl) -> None:
    options = ("--holdout", 0.25, "--checkpoint-every", 2)
    assert mtl(*TRAIN, *options, "--out", "whole").code == 0
    assert mtl(*TRAIN, *options, "--out", "cut", "--keep", 2).code == 0
    cut = home / "cut"
    (cut / "last.pt").write_bytes((cut / "iteration_2.pt").read_bytes())
    assert mtl("train", "--resume", "cut", "--workers", 0).code == 0
    for name in ("last.pt", "best.pt"):
        a, b = (checkpoint.read(home / run / name) for run in ("whole", "cut"))
        assert a["iteration"] == b["iteration"]
        assert all(torch.equal(a["network"][k], b["network"][k]) for k in a["network"])
    logs = [[{**line, "speed": None} for line in read_log(home / r)] for r in ("whole", "cut")]
    assert logs[0] == logs[1]


def improving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that are better every time."""
    monkeypatch.setattr(selection.Selection, "_score", lambda self: {
        "depth": 2 / self.state.iteration, "normals": math.nan})  # fmt: skip


def test_best_is_never_ahead_of_last_nor_of_the_log(home: Path, mtl, monkeypatch) -> None:
    improving(monkeypatch)
    written, real = [], checkpoint.save

    def save(path: Path, **content: object) -> None:
        real(path, **content)
        logged = [line["iteration"] for line in read_log(home / "run")]
        written.append((path.name, content["iteration"], max(logged, default=0)))

    monkeypatch.setattr(checkpoint, "save", save)
    assert mtl(*SMALL, "--holdout", 0.25, "--val-every", 2, "--out", "run").code == 0
    assert written == [("last.pt", 0, 0), ("last.pt", 2, 2), ("best.pt", 2, 2),
                       ("last.pt", 4, 4), ("best.pt", 4, 4)]  # fmt: skip


@pytest.mark.parametrize("broken", ["best.pt", "evaluation"])
def test_what_failed_after_the_last_step_is_made_up_for(home, mtl, monkeypatch, broken) -> None:
    improving(monkeypatch)
    real, score = checkpoint.save, selection.Selection._score

    def save(path: Path, **content: object) -> None:
        if (path.name, content["iteration"]) == ("best.pt", 4):
            raise OSError("the disk is full")
        real(path, **content)

    def fail(self: selection.Selection) -> dict[str, float]:
        return {} if self.state.iteration < 4 else {"depth": 1 / 0}

    with monkeypatch.context() as patch:
        if broken == "best.pt":
            patch.setattr(checkpoint, "save", save)
        else:
            patch.setattr(selection.Selection, "_score", lambda s: score(s) | fail(s))
        failed = mtl(*SMALL, "--holdout", 0.25, "--val-every", 2, "--out", "run")
    assert (failed.code, failed.err.count("\n")) == (1, 1)
    assert "saved at iteration 4" in failed.err
    assert checkpoint.read(home / "run" / "best.pt")["iteration"] == 2
    answer = mtl("train", "--resume", "run", "--workers", 0)
    assert answer.code == 0, answer.err
    assert checkpoint.read(home / "run" / "best.pt")["iteration"] == 4
    lines = read_log(home / "run")
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4]
    assert [line["gain"] for line in lines if "gain" in line] == pytest.approx([0, 50])


@pytest.mark.parametrize("share", [-0.1, 0.9, "nan"])
def test_a_share_that_is_none(home: Path, mtl, share: object) -> None:
    answer = mtl(*TRAIN, "--holdout", share)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "--holdout" in answer.err


def weighting(name: str, weights: dict[str, float], epoch: int = 1) -> torch.nn.Module:
    return WEIGHTINGS[name](weights, [torch.ones(2, 2, requires_grad=True)], epoch)


def losses(**values: float) -> dict[str, torch.Tensor]:
    return {n: torch.tensor(v, requires_grad=True) for n, v in values.items()}


def test_fixed_is_the_weighted_sum() -> None:
    assert weighting("fixed", {"a": 2.0, "b": 50.0})(losses(a=1.5, b=0.1)).item() == 8.0


def test_uncertainty_learns_to_be_certain_where_losses_are_small() -> None:
    module = weighting("uncertainty", {"a": 1.0, "b": 1.0})
    assert module(losses(a=0.5, b=4.0)).item() == 4.5, "at first the plain sum: s is 0"
    steps = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(500):
        steps.zero_grad()
        module(losses(a=0.5, b=4.0)).backward()
        steps.step()
    # the optimum of exp(-s) L + s is s = log L
    assert module.log_variance.tolist() == pytest.approx([math.log(0.5), math.log(4.0)], abs=1e-3)


def test_the_geometric_mean_does_not_mind_scales() -> None:
    module = weighting("geometric", {"a": 1.0, "b": 1.0})
    assert module(losses(a=2.0, b=8.0)).item() == pytest.approx(4.0)
    small, large = losses(a=2.0, b=8.0), losses(a=2.0, b=800.0)
    for given in (small, large):
        module(given).log().backward()
    assert small["a"].grad == large["a"].grad


def test_dynamic_average_favours_the_task_that_stalls() -> None:
    module = weighting("dwa", {"a": 1.0, "b": 1.0}, epoch=2)
    for a in (4.0, 4.0, 2.0, 2.0):  # two epochs: a halves, b stays
        assert module(losses(a=a, b=1.0)).item() == pytest.approx(a + 1), "nothing is known yet"
    given = losses(a=1.0, b=1.0)
    module(given).backward()
    expected = 2 * np.exp([0.25, 0.5]) / np.exp([0.25, 0.5]).sum()
    assert [given["a"].grad.item(), given["b"].grad.item()] == pytest.approx(expected.tolist())


def test_an_epoch_of_dwa_is_that_of_the_pictures_trained_on(home: Path, mtl) -> None:
    options = ("--weighting", "dwa", "--holdout", 0.25)  # of 8 pictures 6, three batches of 2
    assert mtl(*TRAIN, *options, "--out", "run").code == 0
    saved = checkpoint.read(home / "run")["weighting"]
    last = read_log(home / "run")[-1]["loss"]
    weights = {"depth": 1.0, "normals": 10.0}
    assert saved["running"].tolist() == pytest.approx([weights[n] * v for n, v in last.items()])


def test_gradnorm_balances_gradients_at_the_shared_layer() -> None:
    shared = torch.ones(2, 2, requires_grad=True)
    module = WEIGHTINGS["gradnorm"]({"a": 1.0, "b": 1.0}, [shared], 1)
    for _ in range(300):
        module({"a": 10 * shared.sum(), "b": shared.sum()})
    weight = module.weight
    assert weight.sum().item() == pytest.approx(2, abs=1e-4)
    assert (10 * weight[0] / weight[1]).item() == pytest.approx(1, abs=0.35)


def test_gradnorm_steps_as_its_equations_say() -> None:
    """Chen et al., equations 1 and 2 with alpha 1.5, written out for losses of three tasks that
    fall at random: L = level x (row . x), whose gradient at x is level x row; steps of 0.025 times
    a task's norm over their mean.
    """
    rng = np.random.default_rng(0)
    rows, levels = rng.uniform(0.1, 1, (3, 4)), rng.uniform(0.2, 2, (40, 3))
    x = torch.ones(2, 2, requires_grad=True)
    module = WEIGHTINGS["gradnorm"](dict.fromkeys("abc", 1.0), [x], 1)
    weight = np.ones(3)
    for level in levels:
        scaled = torch.from_numpy(level[:, None] * rows).float()
        module({name: (row * x.flatten()).sum() for name, row in zip("abc", scaled)})
        norms = level * np.linalg.norm(rows, axis=1)
        pace = level / levels[0] / (level / levels[0]).mean()
        too_long = weight * norms - (weight * norms).mean() * pace**1.5
        weight = weight - 0.025 * np.sign(too_long) * norms / norms.mean()
        weight *= 3 / weight.sum()
        assert module.weight.tolist() == pytest.approx(weight.tolist(), rel=1e-4)


def test_gradnorm_compares_gradients_at_the_last_kernel_that_is_shared() -> None:
    first, last, bias = (torch.ones(n, requires_grad=True) for n in ((2, 2), (3, 2), (2,)))
    module = WEIGHTINGS["gradnorm"]({"a": 1.0, "b": 1.0}, [first, last, bias], 1)
    shared = last.sum() + bias.sum()
    module({"a": 10 * first.sum() + shared, "b": first.sum() + shared})
    assert module.weight.tolist() == [1, 1], "equally long there"
    module({"a": shared + 10 * last.sum(), "b": 10 * shared + 2 * last.sum()})
    assert module.weight[0] != 1


@pytest.mark.parametrize("name", sorted(WEIGHTINGS.keys() - SURGERIES.keys() - {"fixed"}))
def test_every_weighting_trains_and_resumes_exactly(home: Path, mtl, name: str) -> None:
    options = ("--weighting", name, "--checkpoint-every", 2)
    assert mtl(*TRAIN, *options, "--out", "run", "--keep", 2).code == 0
    whole = checkpoint.read(home / "run")
    (home / "run" / "last.pt").write_bytes((home / "run" / "iteration_2.pt").read_bytes())
    assert mtl("train", "--resume", "run", "--workers", 0).code == 0
    resumed = checkpoint.read(home / "run")
    for part in ("network", "weighting"):
        assert all(torch.equal(whole[part][k], resumed[part][k]) for k in whole[part])
    assert json.loads((home / "run" / "run.json").read_text())["config"]["weighting"] == name


def test_an_unknown_weighting(home: Path, mtl) -> None:
    answer = mtl(*TRAIN, "--weighting", "pcgrab")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "geometric" in answer.err
