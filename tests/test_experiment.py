"""Experiments: every run is done once and resumed where it stopped; the table follows from them."""

import json
import math
import threading
from dataclasses import replace
from functools import partial
from statistics import fmean, stdev

import pytest
import torch
from scipy.stats import t as student

from mtlcli import lookup
from mtlcli.data.prepare import prepare
from mtlcli.errors import InputError, RunError
from mtlcli.experiments import _grid as experiment
from mtlcli.experiments import _run as running
from mtlcli.experiments._experiment import Experiment
from mtlcli.experiments._grid import collect, conduct, plan, plan_run
from mtlcli.experiments._intervals import differences, paired, tell_apart, welch
from mtlcli.experiments._run import devices
from mtlcli.experiments._table import table
from mtlcli.runs.config import RunConfig
from mtlcli.runs.table import spread
from mtlcli.systems import _settings as settings

TINY = Experiment(
    title="tiny",
    budget=RunConfig(
        dataset="rooms",
        tasks=("depth", "sal"),
        init="random",
        backbone="resnet18_half",
        size=(32, 40),
        iterations=2,
        batch_size=2,
    ),
    cells={
        "single_task": {"system": "single_task", "settings": {"hidden": 4}},
        "multi_task": {"system": "multi_task", "settings": {"hidden": 4}},
    },
    seeds=2,
    references=("single_task",),
    limit=2,
    prepare="mtl prepare rooms",
)


@pytest.fixture
def tiny(home, monkeypatch):
    """The tiny experiment, under the name `tiny`."""
    monkeypatch.setattr(experiment, "load", lambda name: TINY)
    return home


def test_every_cell_and_seed_becomes_a_run_that_is_done_once(tiny):
    record = conduct("tiny", device="cpu", quiet=True)
    assert [(r["cell"], r["seed"]) for r in record["runs"]] == [
        ("single_task", 0), ("single_task", 1), ("multi_task", 0), ("multi_task", 1),
    ]  # fmt: skip
    files = [run.folder / "last.pt" for run in plan("tiny")]
    written = [file.stat().st_mtime_ns for file in files]
    conduct("tiny", device="cpu", quiet=True)
    assert written == [file.stat().st_mtime_ns for file in files]


def test_a_run_that_was_trained_but_not_scored_is_only_scored(tiny):
    conduct("tiny", labels=["multi_task"], seeds=[0], device="cpu", quiet=True)
    run = plan_run("tiny", "multi_task", 0)
    before = (run.folder / "results.json").read_text(), (run.folder / "log.jsonl").read_text()
    (run.folder / "results.json").unlink()
    conduct("tiny", labels=["multi_task"], seeds=[0], device="cpu", quiet=True)
    after = (run.folder / "results.json").read_text(), (run.folder / "log.jsonl").read_text()
    assert json.loads(after[0])["main"] == json.loads(before[0])["main"]
    assert after[1] == before[1]


def test_the_record_says_how_each_run_was_made(tiny):
    record = conduct("tiny", labels=["multi_task"], seeds=[1], device="cpu", quiet=True)
    (run,) = record["runs"]
    config = RunConfig.from_json(run["config"])
    assert (config.seed, config.system, config.iterations) == (1, "multi_task", 2)
    assert run["images"] == 2
    path = tiny / "weights" / "experiments" / "tiny" / "experiment.json"
    assert json.loads(path.read_text()) == record == collect("tiny")


def fake_runs(**scores):
    return {
        "experiment": "x",
        "title": "x",
        "references": ["a", "absent"],
        "runs": [
            {"cell": cell, "seed": seed, "main": {"depth": value, "sal": 0.5}}
            for cell, values in scores.items()
            for seed, value in enumerate(values)
        ],
    }


def test_the_table_has_means_deviations_and_gains_against_the_mean_of_the_reference():
    lines = table(fake_runs(a=[1.0, 1.2], b=[0.9, 0.8])).splitlines()
    assert "Δ% vs a" in lines[0]
    assert "absent" not in lines[0]
    row = [cell.strip() for cell in lines[3].strip("|").split("|")]
    assert row[:3] == ["b", "2", f"{0.85:.4f} ± {stdev([0.9, 0.8]):.4f}"]
    gains = [-100 * (d - 1.1) / 1.1 / 2 for d in (0.9, 0.8)]  # depth improves, sal is the same
    assert row[4] == f"{fmean(gains):+.2f} ± {stdev(gains):.2f}"


def test_a_difference_is_told_only_where_its_interval_by_welch_leaves_out_zero():
    one, other = [1.0, 1.2, 1.1], [0.8, 0.9, 1.3]
    squares = [stdev(v) ** 2 / len(v) for v in (one, other)]
    freedom = sum(squares) ** 2 / sum(s**2 / (len(one) - 1) for s in squares)
    reach = student.ppf(0.975, freedom) * math.sqrt(sum(squares))
    low, high = welch(dict(enumerate(other)), dict(enumerate(one)))
    assert (low, high) == pytest.approx((-0.1 - reach, -0.1 + reach))
    close = {d.task: d for d in differences(fake_runs(a=one, b=other)["runs"], "a")}
    assert not close["depth"].is_told
    far = fake_runs(a=one, b=[0.5, 0.52, 0.51], c=[2.0, 2.01, 2.02])
    told = {(d.cell, d.task): d.is_better for d in differences(far["runs"], "a") if d.is_told}
    assert told == {("b", "depth"): True, ("c", "depth"): False}, "less depth error is better"
    said = tell_apart(far)
    assert said.index("Better: b, depth") < said.index("Worse: c, depth")
    assert said.count("The other 2 cannot") == 2
    assert tell_apart(fake_runs(a=[1.0], b=[2.0])) == "", "one seed tells nothing"


def test_runs_of_one_seed_are_compared_with_each_other():
    one, other = {0: 1.0, 1: 3.0, 2: 2.0, 7: 9.0}, {2: 2.3, 0: 1.2, 1: 3.4, 5: 0.0}
    reach = student.ppf(0.975, 2) * stdev([0.2, 0.4, 0.3]) / math.sqrt(3)
    assert paired(other, one) == pytest.approx((0.3 - reach, 0.3 + reach))
    low, high = welch(other, one)
    assert low < 0 < high
    assert all(map(math.isnan, paired({0: 1.0, 1: 2.0}, {1: 3.0, 2: 4.0}))), "one pair is too few"


def test_costs_stand_beside_the_cell_they_belong_to():
    costs = {"a": {"params": 1_500_000, "flops": 2.5e9, "seconds_per_iteration": 0.25}}
    lines = table(fake_runs(a=[1.0], b=[1.0]) | {"costs": costs}).splitlines()
    assert lines[2].rstrip("| ").endswith("1.50 |  2.50 |       0.250")
    assert lines[3].rstrip("| ").endswith("-")


def test_one_seed_has_no_deviation_and_no_seed_no_value():
    assert spread([0.5]) == "0.5000"
    assert spread([float("nan")]) == "-"


def test_runs_of_other_options_or_data_are_not_mixed_in(tiny, monkeypatch):
    conduct("tiny", labels=["multi_task"], seeds=[0], device="cpu", quiet=True)
    other = replace(TINY, budget=replace(TINY.budget, lr=0.5))
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "load", lambda name: other)
        for look in (partial(conduct, device="cpu", quiet=True), collect):
            with pytest.raises(InputError, match=r"seed0 began with other options \(--lr\)"):
                look("tiny")
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "load", lambda name: replace(TINY, pictures=9))
        with pytest.raises(InputError, match="has 8 training pictures, and this is of 9"):
            conduct("tiny", device="cpu", quiet=True)
    prepare("rooms", size=(48, 64), train=7, val=3, workers=1, quiet=True, force=True)
    with pytest.raises(InputError, match="other pictures or labels"):
        conduct("tiny", labels=["single_task"], device="cpu", quiet=True)
    assert [r["cell"] for r in collect("tiny")["runs"]] == ["multi_task"], "no data is needed"


def test_what_is_asked_twice_is_done_once_and_other_folders_are_passed_over(tiny):
    planned = plan("tiny", ["multi_task", "multi_task"], [1, 1])
    assert [run.title for run in planned] == ["multi_task, seed 1"]
    (planned[0].folder.parent / "seed0_old").mkdir(parents=True)
    assert collect("tiny")["runs"] == []


@pytest.mark.parametrize(
    ("mine", "given"), [("2,3", ["2", "3", "2"]), ("GPU-a", ["GPU-a"] * 3), (None, ["0", "1", "0"])]
)
def test_runs_side_by_side_keep_to_the_gpus_that_were_given(monkeypatch, mine, given):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(set(given)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if mine:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mine)
    assert [place["CUDA_VISIBLE_DEVICES"] for place in devices("auto", 3)] == given


def test_the_list_of_experiments_is_json_too_and_cells_need_a_name(mtl):
    listed = json.loads(mtl("experiment", "--json").out)
    assert "single_task" in listed["rooms_systems"]["cells"]
    assert mtl("experiment", "--cell", "demt").code == 2


def test_unknown_cells_and_a_missing_dataset_are_told(tiny):
    with pytest.raises(InputError, match=r"no cell 'demt'.*single_task; multi_task"):
        conduct("tiny", labels=["demt"], device="cpu", quiet=True)
    (tiny / "datasets" / "rooms.h5").unlink()
    with pytest.raises(InputError, match="mtl prepare rooms"):
        conduct("tiny", device="cpu", quiet=True)


def test_side_by_side_every_run_is_done_and_threads_are_shared(tiny, monkeypatch):
    done = []
    monkeypatch.setattr(running, "finish_elsewhere", lambda run, *_: done.append(run.folder))
    conduct("tiny", device="cpu", jobs=2, quiet=True)
    assert sorted(done) == sorted(run.folder for run in plan("tiny"))
    assert devices("cpu", 2)[0]["OMP_NUM_THREADS"].isdigit()


@pytest.mark.parametrize("debug", ["0", "1"])
def test_a_failed_run_ends_the_experiment_with_its_reason(tiny, monkeypatch, capfd, debug):
    broken = replace(TINY, cells={"broken": {"backbone": "no_such"}}, seeds=2)
    monkeypatch.setattr(experiment, "load", lambda name: broken)
    monkeypatch.setenv("MTL_DEBUG", debug)
    with pytest.raises(RunError, match=r"broken, seed .*failed: .*no_such"):
        conduct("tiny", device="cpu", jobs=2, quiet=True)
    assert ("Traceback" in capfd.readouterr().err) == (debug == "1")


def test_the_list_and_an_unknown_name(mtl, home):
    listed = mtl("experiment")
    assert listed.code == 0
    assert "rooms_systems" in listed.out
    wrong = mtl("experiment", "rooms_system")
    assert wrong.code == 2
    assert "rooms_systems" in wrong.err


def test_a_failed_run_stops_those_beside_it(tiny, monkeypatch):
    ended = []

    begun = threading.Event()

    def elsewhere(run, how, place, stop):
        if run.cell == "single_task":
            begun.wait(100)
            raise RunError("made to fail")
        begun.set()
        ended.append(stop.wait(100))

    monkeypatch.setattr(running, "finish_elsewhere", elsewhere)
    with pytest.raises(RunError, match="made to fail"):
        conduct("tiny", seeds=[0], device="cpu", jobs=2, quiet=True)
    assert ended == [True]


@pytest.mark.parametrize("name", ["rooms_gradient_scopes", "nyud_gradient_scopes"])
def test_both_readings_of_lambda_are_compared_at_every_scale_of_the_papers_table_4(name):
    its = lookup.load("experiments", name).EXPERIMENT
    configs = {label: its.config(label, 0) for label in its.cells}
    assert (its.seeds, its.references) == (3, ("lambda 1",))
    assert {c.optimizer for c in configs.values()} == {"sgd"}
    complete = [settings.complete(c.system, c.settings) for c in configs.values()]
    varied = {(c.pop("gradient_scope"), c.pop("gradient_scale")) for c in complete}
    assert all(c == complete[0] for c in complete), "they differ in nothing else"
    scales = (10, 30, 50, 100, 200)
    expected = {(scope, float(s)) for scope in ("offsets", "module") for s in scales}
    assert varied == expected | {("offsets", 1.0)}, "at 1 nothing is scaled"
