"""`mtl bench attention`: what is compared is the same thing; the scaling script."""

import json

import pytest
import torch

from mtlcli.ops import choice, numba_cpu
from mtlcli.ops.reference import deformable_attention
from mtlcli.scoring import trial
from mtlcli.scoring.bench_attention import bench
from mtlcli.scoring.contenders import OURS, contenders, grid_sample_by_map, make
from mtlcli.scoring.trial import Timing, Trial
from tests.bench.bench_scaling import TASKS, Point, Scaling, scaling

CPU = torch.device("cpu")
SMALL = (24, 32)
BASELINES = {"vs_sdpa_fp32", "vs_sdpa_bf16", "vs_grid_sample"}


@pytest.fixture(scope="module")
def measured():
    return bench(tasks=2, size=SMALL, repeats=2, device="cpu", quiet=True)


def contender(name, dtype="fp32"):
    found = contenders(CPU, ["fp32", "bf16"])
    return next(c for c in found if (c.name, c.dtype) == (name, dtype))


def test_every_contender_computes_what_it_should(measured):
    for row in measured.rows:
        if row.ms and row.error is not None:
            assert row.error < (1e-5 if row.dtype == "fp32" else 1e-2), row.name
    assert {row.name for row in measured.rows if row.ms} >= {"SDPA flash", "numba", "reference"}


def test_grid_sample_is_deformable_attention():
    work = make((20, 28), 2, CPU)
    arguments = (work.value, work.shapes, work.reference, work.offsets, work.logits)
    torch.testing.assert_close(
        grid_sample_by_map(*arguments), deformable_attention(*arguments), rtol=1e-4, atol=1e-5
    )


def test_ratios_are_times_of_the_same_run(measured):
    rows = measured.to_json()["rows"]
    ratios = measured.to_json()["ratios"]
    assert set(ratios) == {"forward", "forward_backward"}
    for direction, found in ratios.items():
        assert set(found) == BASELINES
        times = {
            (row["family"], row["dtype"]): min(
                other["ms"]
                for other in rows
                if other["ms"]
                and [other[k] for k in ("family", "dtype", "direction")]
                == [row["family"], row["dtype"], direction]
            )
            for row in rows
            if row["ms"]
        }
        wanted = times["sdpa", "bf16"] / times["ours", "fp32"]
        assert found["vs_sdpa_bf16"] == pytest.approx(wanted)
        assert found["vs_grid_sample"] > 1


def test_backward_counts_more(measured):
    by = {(row.name, row.dtype, row.direction): row for row in measured.rows}
    forward, both = (by["numba", "fp32", d] for d in ("forward", "forward_backward"))
    assert both.flops == 3 * forward.flops


def test_what_does_not_fit_is_said(monkeypatch):
    monkeypatch.setattr(trial, "free_bytes", lambda device: 1e6)
    work = make((64, 64), 2, CPU)
    task = Trial(workload=work, backward=True, repeats=1, device=CPU)
    for name in ("SDPA math", "grid_sample by map"):
        assert "does not fit" in task.measure(contender(name)).absent
    assert task.measure(contender("numba")).ms


def test_kernels_that_fail_are_said_and_not_measured_as_what_takes_over(monkeypatch):
    def refuse(*args):
        raise ValueError("PassManager::run failed")

    monkeypatch.setattr(numba_cpu, "run_units", refuse)
    answer = bench(tasks=1, size=(16, 16), repeats=1, backward=False, device="cpu", quiet=True)
    rows = [row for row in answer.rows if row.name == "numba"]
    assert rows
    assert all("PassManager::run failed" in row.absent and row.ms is None for row in rows)


def test_kernels_that_cannot_be_loaded_are_said_and_the_others_measured(monkeypatch):
    def refuse(name):
        raise ImportError("no compiler here")

    monkeypatch.setattr(choice, "_import", refuse)
    monkeypatch.delitem(choice._loaded, "numba", raising=False)
    answer = bench(tasks=1, size=(16, 16), repeats=1, backward=False, device="cpu", quiet=True)
    absent = {row.name: row.absent for row in answer.rows if row.absent}
    assert "no compiler here" in absent["numba"]
    assert any(row.ms for row in answer.rows)


def test_runs_of_ours_are_added_between_the_others(measured):
    runs = {row.name: len(row.timing.seconds) for row in measured.rows if row.timing}
    assert runs["numba"] > runs["grid_sample by map"]
    assert Timing(seconds=(1.0, 9.0, 2.0), extra_bytes=7).ms == 2000


def test_the_crossing_is_where_both_laws_meet():
    points = [
        Point(
            tasks=2,
            size=(n, 1),
            queries=n,
            ms={"ours fp32": 3.0 * n, "SDPA fp32": 0.01 * n**2},
        )
        for n in (100, 200, 400)
    ]
    made = Scaling(ours="ours fp32", over={"tasks": (), "size": tuple(points)})
    assert made.crossings() == {"SDPA fp32": pytest.approx(300)}


def test_scaling_covers_tasks_and_sizes():
    found = [c for c in contenders(CPU, ["fp32"]) if c.name != "reference"]
    grown = scaling(found, 2, SMALL, CPU)
    assert [p.tasks for p in grown.over["tasks"]] == list(TASKS)
    assert [p.queries for p in grown.over["size"]] == sorted(p.queries for p in grown.over["size"])
    assert grown.over["size"][-1].size == SMALL
    assert "queries on" in grown.table()


def test_json_of_the_command(mtl):
    answer = mtl(
        "bench", "attention", "--tasks", 1, "--size", "16x16", "--repeats", 1, "--no-backward",
        "--device", "cpu", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    assert set(record["ratios"]) == {"forward"}
    assert set(record["ratios_of_each_type"]) >= {"fp32", "bf16"}
    assert record["queries"] == 16
    assert any(row["family"] == OURS and row["ms"] for row in record["rows"])


@pytest.mark.parametrize(
    "option", [("--dtype", "fp8"), ("--size", "0x4"), ("--tasks", 0), ("--repeats", 0),
               ("--dataset", "nothing")],
)  # fmt: skip
def test_options_that_cannot_be_used_are_named(mtl, option):
    answer = mtl("bench", "attention", *option, "--device", "cpu")
    assert answer.code == 2
    assert str(option[1])[0] in answer.err
