"""What others report: complete, each row with its source, and never taken for a recipe."""

import csv
import json
from collections import Counter
from itertools import pairwise

import pytest

from mtlcli.errors import InputError
from mtlcli.recipes._recipe import DEMT, recipe, recipes
from mtlcli.recipes._reported import all_rows, find_reported, reported, slug

PERCENT = ("semseg", "edge", "human_parts", "sal")


def test_every_row_of_the_collected_table_is_here_with_its_numbers(real_data) -> None:
    rows = {(r.dataset, r.method, r.backbone): r for r in all_rows()}
    with (real_data / "published.csv").open() as file:
        collected = list(csv.DictReader(file))
    assert len(rows) == len(collected) == len(all_rows())
    for its in collected:
        row = rows[its["dataset"], its["method"], its["backbone"].split(" (")[0]]
        for task in ("semseg", "depth", "normals", "edge", "human_parts", "sal"):
            printed = row.scores.get(task, 0.0) * (100 if task in PERCENT else 1)
            assert printed == pytest.approx(float(its[task] or 0)), (row.name, task)
        assert (row.year, row.parameters or 0) == (int(its["year"]), float(its["params_M"] or 0))
        assert (row.gflop or 0) == float(its["gflops"] or 0)


def test_every_row_has_a_source_of_its_own_name_and_scores_that_can_be() -> None:
    assert max(Counter(r.name for r in all_rows()).values()) == 1
    for row in all_rows():
        assert row.source
        assert row.scores
        for task, value in row.scores.items():
            assert 0 < value < (60 if task == "normals" else 1)


def test_rows_that_are_recipes_too_agree_with_the_recipes() -> None:
    both = [r for r in all_rows() if r.name in recipes() and r.source == "yangyangxu0/DeMT README"]
    assert len(both) > 3
    for row in both:
        own = [p.scores for p in recipe(row.name).published if p.source == DEMT]
        assert all(dict(row.scores) == pytest.approx(dict(scores)) for scores in own)


def test_a_pattern_chooses_by_backbone_method_or_name() -> None:
    assert {r.backbone for r in reported("vit-l")} == {"ViT-L"}
    assert {r.backbone for r in reported("Swin-?")} == {"Swin-T", "Swin-S", "Swin-B", "Swin-L"}
    assert {r.dataset for r in reported("pascal/*")} == {"pascal"}
    assert {r.method for r in reported("invpt")} == {"InvPT", "InvPT++", "InvPT rerun"}
    assert len(reported("")) == len(all_rows())
    with pytest.raises(InputError, match="Did you mean 'Swin-T'"):
        reported("swinT")


def test_rows_of_a_backbone_stand_together() -> None:
    places = [(r.dataset, r.backbone) for r in reported()]
    changes = sum(one != other for one, other in pairwise(places))
    assert changes + 1 == len(set(places))


@pytest.mark.parametrize(
    "name", ["nyud/vit_b/sak", "NYUD/ViT-B/SAK", "InvPT", "pascal/vit_l/prism"]
)
def test_a_reported_row_cannot_be_trained_and_says_so_in_one_line(mtl, home, name: str) -> None:
    answer = mtl("train", "--recipe", name)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    row = find_reported(name)
    assert row is not None
    assert f"`mtl recipes --published {row.name}`" in answer.err
    assert row.source in answer.err
    assert not (home / "weights").exists()
    assert slug(row.method) in mtl("recipes", "--published", row.name, "--json").out


def test_no_reported_row_is_listed_as_a_recipe(mtl) -> None:
    listed = {r["name"] for r in json.loads(mtl("recipes", "--json").out)}
    assert listed == set(recipes())
    shown = mtl("recipes", "--published").out
    assert "none is a recipe" in shown
    assert len(json.loads(mtl("recipes", "--published", "--json").out)) == len(all_rows())
    assert mtl("recipes", "--published", "nothing").code == 2
