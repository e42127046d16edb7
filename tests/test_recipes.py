"""Recipes: complete, buildable, listed, overridden by what is typed, compared with."""

import json
import shlex
from dataclasses import fields, replace

import pytest

from mtlcli import lookup
from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError
from mtlcli.recipes import _recipe, nyud
from mtlcli.recipes._recipe import options, recipe, recipes
from mtlcli.runs import comparison
from mtlcli.runs.config import RunConfig
from mtlcli.runs.recipe_tables import recipe_text
from mtlcli.runs.record import Record
from mtlcli.scoring.bench_model import bench, build_meta
from mtlcli.scoring.cost import count
from mtlcli.systems import _settings as settings

SMALL = ("--steps", 1, "--width", 32, "--position-channels", 8, "--points", 2,
         "--feedforward", 32, "--query", "pixel", "--device", "cpu", "--workers", 0,
         "--batch-size", 2, "--iterations", 2, "--quiet")  # fmt: skip


def test_each_row_of_the_issue_has_a_recipe():
    for backbone in ("swin_t", "swin_s"):
        for system in lookup.names("systems"):
            assert f"nyud/{backbone}/{system}" in recipes()
    for system in ("demt", "demt_itsa"):
        assert {f"{d}/hrnet18/{system}" for d in ("nyud", "pascal")} <= set(recipes())


def test_names_are_unique():
    listed = [r for d in lookup.names("recipes") for r in lookup.load("recipes", d).RECIPES]
    assert len({r.name for r in listed}) == len(listed)


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_can_be_built_and_has_the_size_it_states(name):
    its = recipe(name)
    assert settings.complete(its.system, its.settings)
    assert (
        bench(RunConfig(**its.options()), params_only=True).params["total"] == its.cost.parameters
    )


def test_stated_operations_are_those_of_the_network():
    its = recipe("nyud/hrnet18/demt_itsa/lean")
    config, network = build_meta(RunConfig(**its.options()))
    total = count(network, {}, config.size)["total"].all
    assert its.cost.forward_tflop == pytest.approx(total / 1e12, abs=0.0006)


def test_the_cost_of_training_is_three_passes_over_all_images():
    its = recipe("nyud/hrnet18/demt_itsa/lean")
    assert its.training_eflop == pytest.approx(3 * 40_000 * 8 * 4.058e12 / 1e18)


@pytest.mark.parametrize("name", recipes())
def test_what_a_recipe_owes_to_a_choice_of_ours_is_noted(name):
    its = recipe(name)
    assert ("ADE20K" in its.note) == (its.init == "ade20k") == its.backbone.startswith("swin")
    assert ("lambda" in its.note) == (its.system == "demt_itsa")


def test_rows_of_table_4_differ_in_lambda_alone():
    for scale in (1, 10, 30, 50, 200):
        assert recipe(f"nyud/hrnet18/demt_itsa/lambda_{scale}").settings == {
            "gradient_scale": scale
        }


@pytest.mark.parametrize("name", recipes())
def test_rows_of_released_code_compute_what_it_computes(name):
    its = recipe(name)
    if its.backbone == "hrnet18":  # trained by the paper's authors
        return
    released = {"demt": {"interaction": "self", "query": "pixel"},
                "mqtransformer": {"attention": "self", "windows": False}}  # fmt: skip
    assert its.settings == released.get(its.system, {})


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(InputError, match="nyud/hrnet18/demt_itsa"):
        recipe("nyud/hrnet18/demt_isa")


def test_explicit_options_replace_those_of_the_recipe_one_by_one():
    found = options("nyud/hrnet18/demt_itsa/lean", {"lr": 0.5, "settings": {"points": "4"}})
    assert found["lr"] == 0.5
    assert found["iterations"] == 40_000
    assert found["settings"] == {
        "steps": 1, "position_channels": 0, "downsampling": "conv1x1_maxpool", "points": "4"
    }  # fmt: skip
    other = options("nyud/hrnet18/demt_itsa/lean", {"system": "multi_task"})
    assert other["settings"] == {}


def test_mtl_recipes_lists_the_published_numbers(mtl):
    table = mtl("recipes").out
    line = next(x for x in table.splitlines() if "nyud/hrnet18/demt_itsa " in x)
    for number in ("0.4039", "0.5819", "20.34", "0.7712", "4.25", "imagenet", "14,862,274"):
        assert number in line
    assert "arXiv 2508.04422, Table 1" in line
    notes = dict(x.split(" ", 1) for x in table.splitlines() if x.startswith("["))
    its = next(number for number in notes if f" {number} |" in line)
    assert notes[its] == recipe("nyud/hrnet18/demt_itsa").note
    listed = json.loads(mtl("recipes", "--json").out)
    assert {r["name"] for r in listed} == set(recipes())
    first = next(r for r in listed if r["name"] == "nyud/swin_t/demt")
    assert first["published"][0]["scores"]["normals"] == 20.65
    assert first["options"]["init"] == "ade20k"


@pytest.mark.parametrize("name", recipes())
def test_one_recipe_is_shown_with_every_row_that_is_published_of_it(name):
    its, shown = recipe(name), recipe_text(recipe(name))
    for published in its.published:
        line = next(x for x in shown.splitlines() if f"| {published.source} " in x)
        assert all(f"{v:.{2 if v > 2 else 4}f}" in line for v in published.scores.values())
    assert its.note in shown


def test_mtl_recipes_shows_one_and_what_it_costs(mtl):
    name = "nyud/hrnet18/multi_task"
    record = json.loads(mtl("recipes", name, "--json").out)
    assert record["name"] == name
    measured = [line for line in record["costs"]["cards"] if line["basis"] == "measured"]
    assert [(line["card"], line["seconds"], line["options"]) for line in measured] == [
        ("H200 141 GB", 0.0863, "--amp"),
        ("H100 80 GB", 0.094, "--amp"),
    ]
    answer = mtl("recipes", "nyud/hrnet18/demi")
    assert (answer.code, answer.err.count("\n")) == (2, 1)


@pytest.mark.parametrize("name", recipes())
def test_the_options_that_a_recipe_is_said_to_be_are_its_options(name):
    shown = next(x for x in recipe_text(recipe(name)).splitlines() if x.startswith("`mtl train"))
    words = shlex.split(shown.split("` is `mtl train ")[1].removesuffix("`."))
    words.remove("--no-amp")
    typed = settings.parse(words)
    its = recipe(name).options()
    assert its.pop("amp") is False
    wanted = {n: v for n, v in (its | its["settings"]).items() if n not in ("settings", "recipe")}
    assert typed == {n: str(v) for n, v in wanted.items()}


@pytest.fixture
def rooms_recipe(monkeypatch):
    """A recipe on rooms, in place of nyud's."""
    reference = _recipe.Recipe(
        dataset="rooms", backbone="hrnet18", system="demt", init="random",
        cost=_recipe.Cost(parameters=1, forward_tflop=1.0),
        published=(_recipe.Published(source="nobody", scores={"depth": 2.0, "semseg": 0.5}),),
    )  # fmt: skip
    made = _recipe.Recipe(
        dataset="rooms", backbone="hrnet18", system="demt_itsa", init="random", lr=0.02,
        settings={"steps": 3, "levels": 2}, iterations=7,
        cost=_recipe.Cost(parameters=1, forward_tflop=1.0),
        published=(
            _recipe.Published(
                source="nobody", scores={"depth": 1.0, "semseg": 0.6}, gain=35.0,
                reference=reference.name,
            ),
        ),
    )  # fmt: skip
    monkeypatch.setattr(nyud, "RECIPES", (reference, made))
    return made


def test_train_by_recipe_then_eval_prints_the_published_row(home, mtl, rooms_recipe):
    answer = mtl("train", "--recipe", rooms_recipe.name, *SMALL)
    assert answer.code == 0, answer.err
    run = home / "weights" / "rooms_hrnet18_demt_itsa"
    record = json.loads((run / "run.json").read_text())
    assert record["config"]["recipe"] == rooms_recipe.name
    assert record["config"]["settings"]["levels"] == 2
    assert record["config"]["lr"] == 0.02
    overrides = record["recipe"]["overrides"]
    assert overrides["iterations"] == [2, 7]
    assert overrides["steps"] == [1, 3]
    assert "levels" not in overrides
    assert "lr" not in overrides

    table = mtl("eval", run, "--device", "cpu", "--workers", 0).out
    assert "(trained from random weights)" in table
    assert "published: rooms/hrnet18/demt_itsa" in table
    assert "+35.00" in table
    assert "iterations 2 (recipe: 7)" in table
    assert "training_images 8 (recipe: 400)" in table
    assert overrides["training_images"] == [8, 400]
    assert overrides["size"] == [[48, 64], [120, 160]], "its file is smaller than the published"
    assert not {"amp", "crop", "tasks"} & set(overrides)
    assert "(indicative: 3 of 100 pictures)" in table
    made = json.loads((run / "results.json").read_text())
    depth, semseg = made["main"]["depth"], made["main"]["semseg"]
    expected = 100 * ((2.0 - depth) / 2.0 + (semseg - 0.5) / 0.5) / 2
    assert made["comparison"]["gain"] == pytest.approx(expected)
    assert f"{expected:+.2f}" in table

    again = mtl("eval", run, "--reference", run, "--device", "cpu", "--workers", 0)
    assert "+0.00" in again.out
    assert f"against {run}" in again.out

    made["fingerprint"] = "another file"
    (home / "other.json").write_text(json.dumps(made))
    apart = mtl("eval", run, "--reference", home / "other.json", "--device", "cpu", "--workers", 0)
    images = made["images"]
    assert f"other.json was scored on {images} images of val of another file" in apart.out
    assert "+0.00" not in apart.out
    assert json.loads((run / "results.json").read_text())["comparison"]["gain"] is None

    made["main"] = {"flow": 0.5}
    (home / "other.json").write_text(json.dumps(made))
    foreign = mtl("eval", run, "--reference", home / "other.json")
    assert foreign.code == 2
    assert f"--reference {home}/other.json: it has no score of" in foreign.err


def test_a_reference_without_results_is_refused_before_work_begins(home, mtl):
    answer = mtl("eval", "weights/none", "--reference", "weights/other")
    assert answer.code == 2
    assert "--reference weights/other" in answer.err
    (home / "results.json").write_text("[]")
    answer = mtl("eval", "x", "--reference", home / "results.json")
    assert f"{home}/results.json is not what mtl writes" in answer.err


def test_a_run_without_recipe_is_compared_with_the_one_of_the_same_settings():
    def of(**settings):
        config = RunConfig(dataset="nyud", system="demt_itsa", settings=settings)
        return comparison.recipe_of(config).name

    assert of() == "nyud/hrnet18/demt_itsa"
    assert of(levels="2") == "nyud/hrnet18/demt_itsa/levels_2"
    assert of(points=3) == "nyud/hrnet18/demt_itsa"
    assert comparison.recipe_of(RunConfig(dataset="rooms")) is None


RECIPE = recipe("nyud/hrnet18/demt_itsa")
OTHERS = {"dataset": "pascal", "tasks": ("depth",), "system": "demt", "backbone": "swin_t",
          "init": "random", "size": (64, 96), "crop": (64, 96), "optimizer": "adamw",
          "amp": True, "weighting": "uncertainty", "recipe": "another", "from_run": "base",
          "schedule": "cosine", "clip": 1.0, "ema": 0.9, "val_every": 5, "patience": 2,
          "zoom": (0.8, 1.25), "mean": (0.5, 0.5, 0.5), "deviation": (0.5, 0.5, 0.5),
          "settings": {"points": 3}}  # fmt: skip
"""Another value of every field of `RunConfig` whose type does not tell one."""
NEEDS = {"patience": {"holdout": 0.25}}  # other options, without which a field means nothing


def change(value):
    """Another value of a number or of a truth value."""
    if isinstance(value, bool):
        return not value
    return 2 * value + 0.25 if isinstance(value, float) else 2 * value + (value == 0)


def departures(config, **facts):
    return Record(config=config, dataset=Info(), **{"device": "cpu", **facts}).departures(RECIPE)


@pytest.mark.parametrize("name", [f.name for f in fields(RunConfig)])
def test_every_option_that_moves_scores_is_a_departure(name):
    usual = RunConfig(**RECIPE.options())
    value = OTHERS[name] if name in OTHERS else change(getattr(usual, name))
    config = replace(usual, **{"settings": {}, name: value} | NEEDS.get(name, {}))
    found = departures(config)
    if name in ("seed", "compile", "checkpointing", "deterministic", "recipe"):
        assert found == {}
    elif name == "settings":
        assert found["points"] == (3, 16)
    else:
        assert found[name][0] == value


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_departs_from_itself_in_nothing(name):
    its = recipe(name)
    config, dataset = RunConfig(**its.options()), lookup.load("datasets", its.dataset).DATASET
    complete = replace(config, tasks=dataset.tasks[::-1], size=dataset.size, crop=dataset.size,
                       amp=False, zoom=(0.5, 2.0),
                       settings=settings.complete(its.system, its.settings))  # fmt: skip
    for made in (config, complete, replace(config, amp=None)):
        facts = {"device": "cpu", "training_images": dataset.splits["train"]}
        assert Record(config=made, dataset=Info(), **facts).departures(its) == {}


@pytest.mark.parametrize("device", ["cpu", "cuda:1", None])
def test_recipes_train_in_single_precision_and_half_departs_wherever_it_runs(device):
    config = RunConfig(**RECIPE.options())
    assert config.amp is False
    assert departures(config, device=device) == {}
    assert departures(replace(config, amp=True), device=device) == {"amp": (True, False)}


@pytest.mark.parametrize(("typed", "amp"), [({}, False), ({"amp": True}, True)])
def test_half_precision_of_a_recipe_is_asked_for(typed, amp):
    assert RunConfig(**options("nyud/hrnet18/demt", typed)).amp is amp


def test_fewer_training_pictures_than_published_are_a_departure():
    config = RunConfig(**RECIPE.options())
    assert departures(config, training_images=40) == {"training_images": (40, 795)}
    assert departures(config, training_images=795) == departures(config) == {}
