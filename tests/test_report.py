"""The report: its tables say what results.json says, and the page is whole, safe and one file."""

import json
import math
import re
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mtlcli import lookup
from mtlcli.data.hdf5 import Info
from mtlcli.recipes._recipe import recipe
from mtlcli.report import assemble as reporting
from mtlcli.report.gallery import Map, draw, rank_pictures, tile
from mtlcli.report.paper_table import as_latex, as_markdown
from mtlcli.runs import checkpoint
from mtlcli.runs.comparison import gain
from mtlcli.runs.config import RunConfig
from mtlcli.runs.table import number
from tests.made_runs import HALF, TASKS, Reader

CSS = files("mtlcli.report").joinpath("page.css").read_text()
NASTY = '<script>alert("1")</script> & %_{}#$^~\\ | `x`'
DIRECTIONS = {"semseg": True, "depth": False, "normals": False, "edge": True}
Maker = Callable[..., Path]


def page_of(*folders: Path, reference: Path | None = None) -> str:
    return reporting.as_page(reporting.gather(folders, reference=reference))


# ---- the page ----


def test_scores_on_the_page_are_those_of_results_json(make_run: Maker) -> None:
    page = Reader(page_of(make_run("one"), make_run("two", TASKS | {"depth": 0.125})))
    rows = {row[0]: row[1:] for row in page.rows if row[0].startswith(("one", "two"))}
    assert rows["oneDeMT-ITSA, HRNet18"][:4] == ["0.5000", "0.2500", "12.50", "0.7500"]
    assert rows["twoDeMT-ITSA, HRNet18"][:4] == ["0.5000", "0.1250", "12.50", "0.7500"]
    assert ["wall", "0.625", "0.625"] in page.rows
    assert ["unseen", "-", "-"] in page.rows


def test_published_rows_and_gain_stand_beside_a_run(make_run: Maker) -> None:
    page = Reader(page_of(make_run("one")))
    published = recipe("nyud/hrnet18/demt_itsa").published[0]
    units = {"normals": "°"}
    expected = [number(value, units.get(name, "")) for name, value in published.scores.items()]
    assert [*expected, f"{published.gain:+.2f}"] in [row[1:] for row in page.rows]
    reference = recipe("nyud/hrnet18/demt").published[0].scores
    own = f"{gain(TASKS, reference, DIRECTIONS):+.2f}"
    assert own in next(row for row in page.rows if row[0].startswith("one"))


def test_gains_are_against_the_reference_that_is_asked_for(make_run: Maker) -> None:
    one, two = make_run("one"), make_run("two", HALF)
    (table,) = reporting.gather([one, two], reference=two).tables
    gains = {row.origin: row.gain for row in table.rows}
    assert gains["one"] == pytest.approx((100 + 50 + 50 + 100) / 4)
    assert gains["two"] == 0
    assert [row.origin for row in table.rows].count("two") == 1
    assert as_markdown(table).count("(two, reference)") == 1
    assert r"(two, reference)" in as_latex(table)
    assert "two (reference)" in "".join(Reader(page_of(one, two, reference=two)).texts)


def test_a_reference_of_the_same_name_is_another_run(make_run: Maker) -> None:
    one, other = make_run("a/run"), make_run("b/run", HALF)
    (table,) = reporting.gather([one], reference=other).tables
    gains = {row.origin: row.gain for row in table.rows if row.is_run}
    assert gains == {str(other): 0, "run": pytest.approx(75)}


def test_the_page_asks_nobody_for_anything(make_run: Maker) -> None:
    text = page_of(make_run("one"))
    page = Reader(text)
    for name, attributes in page.elements:
        assert name not in ("script", "iframe", "object", "embed", "base", "form")
        for key in ("src", "href", "action", "data", "srcset", "poster", "xlink:href"):
            assert re.match(r"data:|#", attributes.get(key) or "#"), (name, attributes)
        assert not any(key.startswith("on") for key in attributes)
    assert not re.search(r"https?:|url\(|@import", text)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in [
        attributes for name, attributes in page.elements if name == "meta"
    ]


def test_what_comes_from_outside_is_text(make_run: Maker) -> None:
    text = page_of(make_run(NASTY.replace("/", "÷"), nasty=NASTY))
    page = Reader(text)
    assert "script" not in {name for name, _ in page.elements}
    assert [f"floor {NASTY}", "0.375"] in page.rows
    assert any(f"NYUD {NASTY}" in part for part in page.texts)
    assert any(NASTY.replace("/", "÷") in part for part in page.texts)


def test_the_page_is_strictly_html(make_run: Maker) -> None:
    html5lib = pytest.importorskip("html5lib", reason="needs the extra [dev]")
    text = page_of(make_run("one", nasty=NASTY), make_run("two", None))
    document = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    ids = [each.get("id") for each in document.iter() if each.get("id")]
    links = [each.get("href") for each in document.iter("a")]
    assert len(ids) == len(set(ids))
    assert links == [f"#{ident}" for ident in ids]
    for image in document.iter("img"):
        assert image.get("alt")


def test_lambdas_effect_is_in_numbers_and_curves(make_run: Maker) -> None:
    weak = make_run("weak", settings={"gradient_scale": 1.0})
    page = Reader(page_of(weak, make_run("strong", settings={"gradient_scale": 200.0})))
    rows = {(row[0], row[2]): row for row in page.rows if len(row) == 7}
    ends = ["1.05", "4.95", "0.0%", "0.0%"]  # means of the first and the last two of 40 lines
    assert rows["weak", "1/1"] == ["weak", "1", "1/1", *ends]
    assert rows["strong", "1/2"][1:] == ["200", "1/2", "2.00", "2.00", "25.0%", "25.0%"]
    assert any("displacement, pixels, map 1/2" in part for part in page.texts)


def test_a_run_without_scores_says_what_to_do_and_shows_the_rest(make_run: Maker, mtl) -> None:
    folder = make_run("one", None, system="multi_task", backbone="resnet18_half")
    answer = mtl("report", folder, "--out", folder / "page.html", "--quiet")
    assert answer.code == 0
    assert f"{folder} has no results.json: run `mtl eval {folder}` first." in answer.err
    page = Reader((folder / "page.html").read_text())
    headings = {part for part in page.texts if part in ("Results", "Training", "Cost")}
    assert headings == {"Training", "Cost"}
    assert "Traceback" not in answer.err
    assert mtl("report", folder, "--markdown").code == 2


def test_the_same_colour_is_the_same_run_in_every_chart(make_run: Maker) -> None:
    runs = [make_run("one", log=False), make_run("two")]
    text = page_of(*runs)
    legends = re.findall(r'stroke="(#\w+)"></line></svg> (one|two)\b', text)
    assert len({name for _, name in legends}) == 2
    assert len(set(legends)) == 2


def declarations(selector: str, css: str = CSS) -> str:
    """All that the style says of a selector, one declaration after the other."""
    return "".join(re.findall(rf"(?:^|[{{}}]\s*){re.escape(selector)}\s*{{([^}}]*)}}", css))


def test_tables_of_classes_have_the_room_they_need(make_run: Maker) -> None:
    text = page_of(make_run("a_long_name"), make_run("b_long_name"))
    (classes,) = re.findall(r'id="classes">.*?</main>', text)
    tables = re.findall(r'<div class="(\w+)"><section class="wide"', classes)
    assert tables == ["tables"], "in the grid of charts their columns are cut off"
    assert "a_<wbr>long_<wbr>name</span></th>" in classes
    assert "flex-wrap: wrap" in declarations(".tables")
    assert "max-width: 100%" in declarations(".tables .wide")
    assert "white-space: normal" in declarations(".name")


def test_names_of_runs_and_headings_of_numbers_break_before_a_column_is_cut(make_run) -> None:
    text = page_of(make_run("a_long_name"), make_run("b_long_name"))
    (results,) = re.findall(r'id="results">.*?</section>', text)
    assert "a_<wbr>long_<wbr>name</span>" in results
    assert "white-space: normal" in declarations("thead th")


def test_on_paper_two_charts_stand_side_by_side_and_no_more() -> None:
    paper = CSS.split("@media print")[1]
    (column,) = re.findall(r"minmax\(([\d.]+)cm", declarations(".charts", paper))
    assert 18 / 3 < float(column) < 18 / 2, "A4 has 18 cm between its margins"
    assert "anywhere" in declarations(".legend")


def test_headings_of_pictures_wrap_and_are_never_cut() -> None:
    heading = declarations(".maps figcaption") + declarations("figcaption")
    assert not re.search(r"nowrap|ellipsis|hidden", heading)
    assert "overflow-wrap: anywhere" in heading


def test_long_paths_in_notices_wrap() -> None:
    assert "overflow-wrap: break-word" in declarations("body")


# ---- bad input ----


def test_what_is_no_run_is_named_in_one_line(make_run: Maker, mtl, tmp_path: Path) -> None:
    folder = make_run("one")
    for arguments, said in (
        ([tmp_path / "nowhere"], "is no run"),
        ([folder, "--markdown", "--latex"], "exclude each other"),
        ([folder, "--markdown", "--out", tmp_path], "is a folder"),
        ([folder, "--markdown", "--out", tmp_path / "no" / "x.md"], "there is no folder"),
        ([folder, "--reference", make_run("other", None)], "has no results.json"),
        ([folder, "--reference", make_run("rooms", dataset="rooms")], "it is of rooms"),
    ):
        answer = mtl("report", *arguments)
        assert answer.code == 2, arguments
        assert said in answer.err
        assert answer.err.count("\n") == 1


@pytest.mark.parametrize("file", ["run.json", "results.json"])
@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_damaged_records_are_named(make_run: Maker, mtl, file: str, content: str) -> None:
    folder = make_run("one")
    (folder / file).write_text(content)
    answer = mtl("report", folder, "--markdown")
    assert answer.code == 2
    assert str(folder / file) in answer.err
    assert answer.err.count("\n") == 1


def test_a_folder_of_runs_means_all_of_them(make_run: Maker) -> None:
    one, two = make_run("series/one"), make_run("series/two")
    assert [run.folder for run in reporting.gather([one.parent]).runs] == [one, two]
    again = make_run("other/one")
    names = [run.name for run in reporting.gather([one, again, one / "run.json"]).runs]
    assert names == [str(one), str(again)]


# ---- with a network ----


@pytest.fixture
def scored(home: Path, mtl) -> Path:
    """A network with random weights, scored by `mtl eval`."""
    from mtlcli.data.reader import Reader

    tasks = ("semseg", "depth", "edge", "sal")
    config = RunConfig(dataset="rooms", tasks=tasks, system="multi_task", size=(48, 64),
                       backbone="resnet18_half", init="random")  # fmt: skip
    dataset = Reader(home / "datasets" / "rooms.h5", "val").info
    torch.manual_seed(0)
    network = checkpoint.build_network(config, dataset)
    folder = home / "weights" / "run"
    folder.mkdir(parents=True)
    record = {"config": config.to_json(), "dataset": dataset.to_json()}
    (folder / "run.json").write_text(json.dumps(record))
    checkpoint.save(folder / "last.pt", **record, iteration=0, network=network.state_dict())
    answer = mtl("eval", folder, "--workers", 0, "--device", "cpu", "--quiet")
    assert answer.code == 0, answer.err
    return folder


def test_a_scored_run_becomes_a_page_with_pictures_and_costs(scored: Path, mtl) -> None:
    results = json.loads((scored / "results.json").read_text(), parse_constant=pytest.fail)
    curve = results["curves"]["edge"]
    f = [2 * p * r / (p + r) if p + r else 0 for r, p in zip(curve["recall"], curve["precision"])]
    assert max(f) == pytest.approx(results["main"]["edge"], abs=1e-5)
    errors = [each["depth"] ** 2 for each in results["pictures"].values()]
    assert math.sqrt(sum(errors) / len(errors)) == pytest.approx(results["main"]["depth"], rel=1e-3)

    answer = mtl("report", scored, "--quiet", "--device", "cpu")
    assert answer.code == 0, answer.err
    assert answer.err == ""
    page = Reader(Path("report.html").read_text())
    images = [attributes for name, attributes in page.elements if name == "img"]
    assert len(images) == 3 * (1 + 2 * 4)
    assert all((each["src"] or "").startswith("data:image/") for each in images)
    network = checkpoint.read(scored)["network"]
    costs = next(row for row in page.rows if row[:2] == ["run", "48×64"])
    weights = {k: v for k, v in network.items() if "running" not in k and "num_batches" not in k}
    assert costs[2] == f"{sum(v.numel() for v in weights.values()):,}"
    assert float(costs[4].replace(",", "")) > 0

    (Path("datasets") / "rooms.h5").unlink()
    answer = mtl("report", scored, "--quiet", "--device", "cpu", "--out", "again.html")
    assert answer.code == 0
    assert "rooms" in answer.err
    again = Reader(Path("again.html").read_text())
    assert not [name for name, _ in again.elements if name == "img"]
    assert [row for row in again.rows if row[:2] == ["run", "48×64"]]


def test_a_depth_scale_of_a_camera_is_not_held_against_the_labels_of_the_dataset(
    base: Path, mtl: Callable
) -> None:
    def seen() -> list[np.ndarray]:
        drawn = mtl("visualize", "--dataset", "rooms", "--checkpoint", base, "--quiet")
        assert drawn.code == 0, drawn.err
        report = reporting.gather([base])
        reporting.add_networks(report, device="cpu", quiet=True)
        shown = [m.prediction for e in report.examples["base"] for m in e.maps]
        return [np.asarray(Image.open("visualized/rooms_val_0.png")), *shown]

    before, record = seen(), json.loads((base / "run.json").read_text())
    scale = {"exponent": 1.0, "factor": 9.0, "pictures": 1, "before": 2.0, "after": 1.0}
    (base / "run.json").write_text(json.dumps(record | {"scales": {"depth": scale}}))
    assert checkpoint.load(base, "cpu").notes
    for one, other in zip(before, seen(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_that_gives_no_number_costs_only_its_own_pictures(base: Path, home: Path) -> None:
    broken = shutil.copytree(base, home / "weights" / "broken")
    content = torch.load(broken / "last.pt")
    last = [name for name in content["network"] if name.endswith(".bias")][-1]
    content["network"][last].fill_(math.nan)
    torch.save(content, broken / "last.pt")
    report = reporting.gather([base, broken])
    reporting.add_networks(report, device="cpu", quiet=True)
    assert set(report.examples) == {"base"}
    assert any("broken" in lack for lack in report.lacks)


def test_pictures_are_ranked_by_all_their_tasks() -> None:
    scores = {
        "a": {"up": 0.9, "down": 3.0},
        "b": {"up": 0.5, "down": 1.0},
        "c": {"up": 0.8, "down": 1.0},
        "d": {"up": None, "down": 9.0},
        "e": {},
    }
    assert rank_pictures(scores, {"up": True, "down": False}) == ["c", "a", "b", "d"]


def drawn(task: str, prediction: np.ndarray, label: np.ndarray | None) -> tuple[Map, str]:
    """A tile of the gallery: its record and its text."""
    its = lookup.load("tasks", task).TASK
    dataset = Info(classes={task: ("background", "head")})
    found = draw(its, prediction, label, None, dataset, task)
    return found, " ".join(Reader(tile(found, "x")).texts)


def test_the_key_of_depth_says_what_the_colours_of_prediction_and_label_mean() -> None:
    label = np.linspace(2, 4, 48 * 64, dtype=np.float32).reshape(1, 48, 64)
    assert "2.0 m (bright) to 4.0 m" in drawn("depth", np.full_like(label, 3), label)[1]
    assert "2.0 m (bright) to 5.0 m" in drawn("depth", label + 1, label)[1]
    said = drawn("depth", label * 10, label)[1]
    assert "above 20.4 m (bright) to 39.6 m" in said
    assert "below 2.0 m (bright) to 4.0 m" in said


@pytest.mark.parametrize("task", ["human_parts", "sal", "depth"])
def test_a_label_that_says_nothing_is_not_drawn_and_the_key_says_so(task: str) -> None:
    predicted = np.zeros((48, 64), np.uint8)
    ignore = lookup.load("tasks", task).TASK.map.unlabelled
    if task != "human_parts":
        predicted = np.linspace(3, 5, 48 * 64, dtype=np.float32).reshape(1, 48, 64)
    found, text = drawn(task, predicted, np.full_like(predicted, ignore))
    assert found.label is None
    assert "no label in this picture" in text
    if task == "depth":
        assert "3.0 m (bright) to 5.0 m" in text
    assert drawn(task, predicted, predicted)[0].label is not None


def test_pixels_without_a_label_are_keyed() -> None:
    label = np.zeros((48, 64), np.uint8)
    label[:20] = 255
    found, text = drawn("human_parts", np.ones_like(label), label)
    assert list(found.classes) == ["head", "background", "no label"]
    assert "no label in this picture" not in text
