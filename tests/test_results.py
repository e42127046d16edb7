"""The results page says what the records beside it say, and every record says how it was made."""

import importlib.util
import inspect
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mtlcli import lookup
from mtlcli.experiments._table import table
from mtlcli.runs.config import RunConfig
from mtlcli.systems import _settings as settings

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGE = RESULTS / "README.md"
EXPERIMENTS = sorted(
    p.stem for p in RESULTS.glob("*.json") if p.stem not in ("performance", "measured")
)
SHIPPED = ROOT / "weights" / "nyud_small"


def record(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_table_follows_from_its_records(name: str) -> None:
    assert table(record(name)) in PAGE.read_text()


def test_the_readme_quotes_how_fast_attention_was_as_its_record_says() -> None:
    ratios = record("performance")[0]["attention"]["ratios"]["forward"]
    text = " ".join((ROOT / "README.md").read_text().split())
    for baseline, key in (("grid_sample", "vs_grid_sample"), ("global", "vs_sdpa_fp32")):
        assert re.search(rf"{ratios[key]:.0f} times faster than `?{baseline}", text)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_run_was_made_as_its_experiment_says(name: str) -> None:
    experiment = lookup.load("experiments", name).EXPERIMENT
    for run in record(name)["runs"]:
        used = RunConfig.from_json(run["config"])
        said = experiment.config(run["cell"], run["seed"])
        for option in ("dataset", "system", "backbone", "init", "size", "iterations",
                       "batch_size", "optimizer", "lr", "weighting", "seed"):  # fmt: skip
            assert getattr(used, option) == getattr(said, option), option
        complete = settings.complete(said.system, said.settings)
        assert used.settings == {name: complete[name] for name in used.settings}


def test_every_page_is_what_the_script_writes_from_the_records() -> None:
    module = load_script()
    for page in module.PAGES:
        assert module.rebuilt(page) == page.read_text(), f"{page}: python results/rebuild.py"
    stale = module.PLACE.sub(r"\g<1>| old |\g<3>\g<4>", PAGE.read_text())
    assert "rooms_systems" in stale
    assert "0.0661" not in stale, "the tables stand between the marks"


def test_everything_that_the_script_can_write_stands_on_a_page_and_once_only() -> None:
    module = load_script()
    marks = Counter(
        place[2] for page in module.PAGES for place in module.PLACE.finditer(page.read_text())
    )
    nothing_in_text_out = inspect.Signature(return_annotation=str)
    writers = inspect.getmembers(module, inspect.isfunction)
    names = {n for n, made in writers if inspect.signature(made) == nothing_in_text_out}
    assert names <= set(marks)
    assert {name for name, times in marks.items() if times > 1} == {"nyud_small"}, "and its card"


def load_script() -> Any:
    """results/rebuild.py as a module."""
    spec = importlib.util.spec_from_file_location("rebuild", RESULTS / "rebuild.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_shipped_network_is_small_and_beats_the_constant_as_its_card_says() -> None:
    assert (SHIPPED / "model.safetensors").stat().st_size < 16e6
    scores = json.loads((SHIPPED / "results.json").read_text())
    constant = scores["constant"]
    card = (SHIPPED / "README.md").read_text()
    assert scores["images"] == 654
    for name, value in scores["main"].items():
        task = lookup.load("tasks", name).TASK
        assert (value > constant[name]) == task.higher_is_better, name
        decimals = 2 if task.unit == "°" else 4
        assert f"{value:.{decimals}f}" in card
        assert f"{constant[name]:.{decimals}f}" in card


def test_the_shipped_network_is_reported_by_its_name(home, mtl) -> None:
    table = mtl("report", "nyud_small", "--markdown")
    assert table.code == 0, table.err
    scores = json.loads((SHIPPED / "results.json").read_text())["main"]
    assert f"{scores['depth']:.4f}" in table.out


def test_a_picture_can_be_drawn_before_anything_was_trained(home, mtl) -> None:
    Image.new("RGB", (80, 60), "teal").save(home / "photo.jpg")
    drawn = mtl("visualize", "photo.jpg", "--device", "cpu", "--quiet")
    assert drawn.code == 0, drawn.err
    assert (
        "nyud_small/model.safetensors (comes with mtl: small, for indoor scenes only" in drawn.err
    )
    assert (home / "visualized" / "photo.png").exists()


def test_tables_of_a_gpu_are_of_what_ran_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage also says what it took, and what failed or was left out."""
    rebuild = load_script()
    lines = {stage: rebuild.gpu(stage) for stage in ("kernels", "operators", "attention", "steps")}
    for stage, found in lines.items():
        found += [{"stage": stage, "took_s": 1.0}, {"stage": stage, "failed": "E: x", "ok": False}]
    lines["operators"][-1] |= {"operator": "cuda", "dtype": "fp32"}
    monkeypatch.setattr(rebuild, "gpu", lines.get)
    assert "float64 1 failed" in rebuild.gpu_besides()
    assert rebuild.gpu_steps().count("\n") == len(lines["steps"]) - 2 + 1
    assert "cuDNN" in rebuild.gpu_attention()
    assert "initial, bf16" in rebuild.gpu_kernels()
