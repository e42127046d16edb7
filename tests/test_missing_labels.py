"""Pictures that lack a label for a task: no loss, no lesson and no alarm comes of them."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mtlcli import lookup
from mtlcli.data.batches import TrainingStream
from mtlcli.data.moments import IMAGENET
from mtlcli.data.prepare import prepare
from mtlcli.data.reader import Reader
from mtlcli.report.figures import collect
from mtlcli.runs.folder import read_log, split_log
from mtlcli.runs.run import Run
from mtlcli.training.clock import progress_text
from mtlcli.training.labels import share_labels
from mtlcli.training.loggers import scalars
from mtlcli.training.selection import mean_gain
from mtlcli.training.watches import CollapseWatch
from mtlcli.training.weightings import SURGERIES, WEIGHTINGS
from tests.test_distributed import together

TRAIN = ("train", "--dataset", "partly", "--init", "random", "--device", "cpu", "--workers", 0,
         "--system", "multi_task", "--backbone", "resnet18_half", "--quiet")  # fmt: skip
YAML = """
size: [48, 48]
splits: {train: [p0, p1, p2, p3], val: [p4]}
image: images/{id}.png
tasks:
  semseg: {files: "masks/{id}.png", classes: [floor, ball]}
  sal: {files: "sal/{id}.png"}
"""


@pytest.fixture
def partly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose dataset has saliency for the picture p0 alone, and classes for the others."""
    monkeypatch.setenv("MTL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    noise, ball = np.random.default_rng(0), np.zeros((48, 48), np.uint8)
    ball[8:20, 10:24] = 1
    for folder in ("images", "masks", "sal"):
        (tmp_path / folder).mkdir()
    for i in range(5):
        pixels = noise.integers(0, 256, (48, 48, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/p{i}.png")
        label, scale = ("masks", 1) if i else ("sal", 255)
        Image.fromarray(ball * scale).save(tmp_path / f"{label}/p{i}.png")
    (tmp_path / "partly.yaml").write_text(YAML)
    prepare(str(tmp_path / "partly.yaml"), workers=1, quiet=True)
    return tmp_path


def test_a_task_has_a_loss_in_the_lines_whose_pictures_have_its_label(partly: Path, mtl) -> None:
    answer = mtl(*TRAIN, "--iterations", 210, "--batch-size", 1, "--out", "run")
    assert (answer.code, answer.err) == (0, ""), answer.err  # no false alarm
    reader = Reader(partly / "datasets" / "partly.h5", "train")
    stream = TrainingStream(reader, {}, (48, 48), (1.0, 1.0), 0, moments=IMAGENET)
    lines = read_log(partly / "run")
    assert len(lines) == 210
    weights = {name: lookup.load("tasks", name).TASK.weight for name in ("semseg", "sal")}
    for position, line in enumerate(lines):
        (task,) = line["loss"]
        assert task == ("sal" if reader.ids[stream.index(position)] == "p0" else "semseg")
        assert line["total"] == pytest.approx(weights[task] * line["loss"][task])


def test_of_a_batch_in_parts_those_with_labels_make_the_loss(partly: Path, mtl) -> None:
    options = ("--iterations", 1, "--batch-size", 4)
    assert mtl(*TRAIN, *options, "--out", "whole").code == 0
    assert mtl(*TRAIN, *options, "--accumulate", 4, "--out", "parts").code == 0
    whole, parts = (read_log(partly / name)[0]["loss"] for name in ("whole", "parts"))
    assert parts == pytest.approx(whole, rel=0.3)  # else a quarter of it; statistics differ


@pytest.mark.parametrize("name", ["semseg", "human_parts", "sal", "edge", "depth", "normals"])
def test_one_labelled_pixel_is_a_label(name: str) -> None:
    task = lookup.load("tasks", name).TASK
    shape = (3, 6, 5) if name == "normals" else (6, 5)
    target = torch.from_numpy(np.stack([np.full(shape, task.map.unlabelled)] * 2))
    assert not task.is_labelled(target)
    assert task.count_labelled(target) == 0
    target[1, ..., 3, 2] = 1
    assert task.is_labelled(target)
    assert task.count_labelled(target) == 1


def test_a_part_of_a_batch_counts_by_its_labelled_pixels() -> None:
    tasks = {name: lookup.load("tasks", name).TASK for name in ("depth", "semseg")}
    depth = torch.zeros(4, 1, 2, 2)
    depth[0, 0, 0], depth[2, 0, 1, 1] = 1, 1  # two pixels in the first half, one in the second
    parts = [{"depth": half, "semseg": torch.full((2, 2, 2), 255)} for half in depth.split(2)]
    shares = share_labels(tasks, parts, torch.device("cpu"))
    torch.testing.assert_close(shares, torch.tensor([[4 / 3, 1], [2 / 3, 1]]))
    assert share_labels(tasks, parts[:1], torch.device("cpu")).tolist() == [[1, 1]]


def test_a_line_without_any_loss_can_be_shown_and_drawn() -> None:
    speed = {"images_per_s": 1.0, "data_wait": 0.0, "memory_gb": 1.0}
    line = {"iteration": 1, "loss": {}, "lr": 0.1, "speed": speed}
    assert progress_text(line)["loss"] == "-"
    assert not any(name.startswith("loss") for name in scalars(line))
    assert collect([line])["loss"] == {}


@pytest.mark.parametrize("missing", ["absent", "zero"])  # zero: in logs of former versions
@pytest.mark.parametrize("share", [0.18, 0.42, 0.65, 0.9])
def test_lines_without_a_label_raise_no_alarm(share: float, missing: str) -> None:
    for seed in range(10):
        chance, watch, said = np.random.default_rng(seed), CollapseWatch("", {}), []
        for i in range(1, 1001):
            value = 0.6 * 0.999**i * chance.uniform(0.8, 1.2)
            loss = {"sal": value}
            if chance.random() < share:
                loss = {} if missing == "absent" else {"sal": 0.0}
            said += watch.read({"iteration": i, "loss": loss})
        assert said == []


def test_what_is_learnt_perfectly_has_not_collapsed() -> None:
    watch = CollapseWatch("", {"sal": True})
    values = [*np.linspace(1, 0.01, 100).tolist(), *[0.0] * 500]
    lines = [{"iteration": i, "loss": {"sal": v, "depth": 0.0}} for i, v in enumerate(values)]
    assert [said for line in lines for said in watch.read(line)] == []


def losses(**values: float) -> dict[str, torch.Tensor]:
    return {n: torch.tensor(v, requires_grad=True) for n, v in values.items()}


BOTH, FIRST, NONE = (torch.tensor(mask) for mask in ([True, True], [True, False], [False, False]))


def make(name: str, epoch: int = 1) -> torch.nn.Module:
    return WEIGHTINGS[name]({"a": 1.0, "b": 1.0}, [torch.ones(2, 2, requires_grad=True)], epoch)


def test_uncertainty_of_a_task_is_not_learnt_without_its_labels() -> None:
    module = make("uncertainty")
    module(losses(a=0.5, b=0.0), FIRST).backward()
    assert module.log_variance.grad[0] != 0
    assert module.log_variance.grad[1] == 0


def test_the_geometric_mean_is_that_of_the_tasks_with_labels() -> None:
    module = make("geometric")
    assert module(losses(a=3.0, b=0.0), FIRST).item() == pytest.approx(3)
    assert module(losses(a=2.0, b=8.0), BOTH).item() == pytest.approx(4)
    assert module(losses(a=0.0, b=0.0), NONE).item() == 0


def test_dynamic_average_goes_by_means_over_what_has_labels() -> None:
    module = make("dwa", epoch=2)
    for a, b, there in ((4.0, 6.0, BOTH), (2.0, 0.0, FIRST), (1.0, 0.0, FIRST), (1.0, 0.0, FIRST)):
        module(losses(a=a, b=b), there)
    assert module.before.tolist() == [[3.0, 6.0], [1.0, 6.0]]  # b: the mean of the epoch before


def test_gradnorm_begins_with_the_first_loss_that_has_labels() -> None:
    shared = torch.ones(2, 2, requires_grad=True)
    module = WEIGHTINGS["gradnorm"]({"a": 1.0, "b": 1.0}, [shared], 1)
    module({"a": 2 * shared.sum(), "b": 0 * shared.sum()}, FIRST)
    assert module.first.tolist() == [8, 0]
    assert module.weight.tolist() == [1, 1]  # one task alone has nothing to be balanced with
    module({"a": 3 * shared.sum(), "b": shared.sum()}, BOTH)
    assert module.first.tolist() == [8, 4]
    assert module.weight.isfinite().all()
    assert math.isclose(module.weight.sum().item(), 2, rel_tol=1e-6)


@pytest.mark.parametrize("name", [n for n in WEIGHTINGS if n not in SURGERIES])
def test_a_task_that_never_has_labels_changes_nothing_for_the_others(name: str) -> None:
    noise, found = torch.Generator().manual_seed(0), []
    rows = torch.rand(8, 2, 4, generator=noise) + 0.1
    for tasks, there in (("ab", BOTH), ("abc", torch.tensor([True, True, False]))):
        x = torch.ones(2, 2, requires_grad=True)
        module = WEIGHTINGS[name](dict.fromkeys(tasks, 1.0), [x], 2)
        for each in rows:
            values = [(row * x.flatten()).sum() for row in each] + [0 * x.sum()]
            total = module(dict(zip(tasks, values)), there)
        total.backward()
        found.append((total.detach(), x.grad))
    for alone, beside in zip(*found):
        assert torch.allclose(alone, beside, atol=1e-6)


@pytest.mark.parametrize("name", list(SURGERIES))
def test_surgery_passes_over_a_task_without_labels(name: str) -> None:
    pytest.importorskip("torchjd", reason="extra [surgery] is not installed")
    pytest.importorskip("quadprog", reason="extra [surgery] is not installed")
    rows = torch.tensor([[1.0, 0.0, 0.2], [-0.6, 1.0, 0.0]], dtype=torch.float64)
    found = []
    for tasks, there in (("ab", BOTH), ("abc", torch.tensor([True, True, False]))):
        torch.manual_seed(0)
        x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        values = {t: row @ x for t, row in zip(tasks, [*rows, torch.zeros(3).double()])}
        SURGERIES[name](dict.fromkeys(tasks, 1.0), [x], 1)(values, there).backward()
        found.append(x.grad)
    assert torch.allclose(found[0], found[1], atol=1e-9)


LABELS = """
import torch
from mtlcli.ops import processes as distributed
from mtlcli import lookup
from mtlcli.training.labels import labels_anywhere

tasks = {n: lookup.load("tasks", n).TASK for n in ("depth", "semseg", "sal")}
with distributed.joined(torch.device("cpu")):
    rank = distributed.rank()
    own = {"depth": rank, "semseg": 0 if rank == 0 else 255, "sal": 255}
    batch = {name: torch.full((1, 4, 4), value) for name, value in own.items()}
    print(labels_anywhere(tasks, batch).tolist())
"""


def test_a_label_of_one_process_is_one_of_all(tmp_path: Path) -> None:
    code = tmp_path / "job.py"
    code.write_text(LABELS)
    for answer in together(2, code):
        assert answer.stdout.strip() == "[True, True, False]", answer.stderr


def test_scores_that_no_held_out_picture_has_are_null_in_the_log(partly: Path, mtl) -> None:
    """Strict JSON, which nobody takes for damage: a resumed run goes on by all its evaluations."""
    options = ("--iterations", 3, "--batch-size", 1, "--holdout", 0.25, "--val-every", 1)
    assert mtl(*TRAIN, *options, "--out", "run").code == 0

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is no JSON")

    text = (partly / "run" / "log.jsonl").read_text()
    lines = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    (missing,) = (name for name, value in lines[0]["holdout"].items() if value is None)
    assert all(line["holdout"][missing] is None for line in lines)
    read, is_all = split_log(partly / "run")
    assert is_all
    assert math.isnan(read[-1]["holdout"][missing])
    assert mtl("train", "--resume", "run", "--workers", 0).err == ""
    assert (partly / "run" / "log.jsonl").read_text() == text
    assert not any("log.jsonl" in lack for lack in Run.read(partly / "run").lacks)


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_what_has_no_score_is_neither_shown_nor_ranked_nor_an_alarm(nothing: float | None) -> None:
    better = {n: SimpleNamespace(higher_is_better=True) for n in ("semseg", "sal")}
    scores, first = {"semseg": 0.6, "sal": nothing}, {"semseg": 0.5, "sal": 0.1}
    assert mean_gain(scores, first, better) == pytest.approx(20)
    assert mean_gain(first, scores, better) == pytest.approx(-50 / 3)
    watch = CollapseWatch("", {"semseg": True, "sal": True})
    spread = {"a": {"pixels": [nothing], "outside": [nothing, nothing]}}
    line = {"iteration": 1, "loss": {}, "lr": 0.1, "holdout": scores, "offsets": spread}
    assert watch.read(line) == []
    assert scalars(line) == {"learning rate": 0.1, "held-out metric/semseg": 0.6}
    spread["a"]["outside"][1] = 0.99
    assert len(watch.read(line)) == 1
