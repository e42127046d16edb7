"""The report: its tables say what results.json says, and the page is whole, safe and one file."""

import json
import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtlcli import checkpoint, lookup
from mtlcli.config import RunConfig
from mtlcli.recipes._index import recipe
from mtlcli.report.chart import BOTTOM, HEIGHT, TOP, Line, chart, limits, log_ticks, ticks
from mtlcli.report.curves import draw_panel
from mtlcli.report.examples import Map, tile
from mtlcli.report.gain import gain
from mtlcli.report.markup import Html, tag
from mtlcli.report.paper_table import Column, Row, Table, as_latex, as_markdown, best
from mtlcli.report.style import CSS
from mtlcli.report.table import number
from mtlcli.reporting import report as reporting
from mtlcli.reporting.gallery import draw, ranked

NASTY = '<script>alert("1")</script> & %_{}#$^~\\ | `x`'
TASKS = {"semseg": 0.5, "depth": 0.25, "normals": 12.5, "edge": 0.75}
HALF = {"semseg": 0.25, "depth": 0.5, "normals": 25.0, "edge": 0.375}
DIRECTIONS = {"semseg": True, "depth": False, "normals": False, "edge": True}
Maker = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> Maker:
    """Writes a run folder that has everything but a network; results=None: not scored."""

    def make(
        name: str,
        results: dict[str, float] | None = TASKS,
        *,
        nasty: str = "",
        log: bool = True,
        scored: dict[str, Any] | None = None,  # changes of results.json
        file: dict[str, Any] | None = None,  # what run.json says of the dataset file
        **options: Any,
    ) -> Path:
        options = {"dataset": "nyud", "system": "demt_itsa", "size": (64, 96)} | options
        tasks = tuple(results or TASKS)
        config = RunConfig(tasks=tasks, **options).to_json()
        dataset = {"name": "nyud", "title": f"NYUD {nasty}", "size": [64, 96], "palettes": {},
                   "classes": {"semseg": ["wall", f"floor {nasty}", "unseen"]}}  # fmt: skip
        record = {"config": config, "dataset": dataset, "command": ["train", nasty]}
        for name_of_fact, value in (file or {}).items():
            (record if name_of_fact == "fingerprint" else dataset)[name_of_fact] = value
        folder = tmp_path / "weights" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(record))
        if results:
            (folder / "results.json").write_text(
                json.dumps(scores_of(results, config, scored or {}))
            )
        lines = [line(i) for i in range(1, 41)] if log else []
        (folder / "log.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        return folder

    return make


def scores_of(
    main: dict[str, float], config: dict[str, Any], changes: dict[str, Any]
) -> dict[str, Any]:
    """What `mtl eval` writes, without single pictures."""
    scores: dict[str, dict[str, float | None]] = {name: {} for name in main}
    if "semseg" in main:
        scores["semseg"] = {"mIoU": main["semseg"], "IoU/0": 0.625, "IoU/1": 0.375, "IoU/2": None}
    if "edge" in main:
        scores["edge"] = {"odsF": main["edge"], "threshold": 0.5}
    curve = {"thresholds": [0.25, 0.5, 0.75], "recall": [0.9, 0.75, 0.0],
             "precision": [0.5, 0.75, 1.0]}  # fmt: skip
    return {"checkpoint": "last.pt", "iteration": 40, "split": "val", "images": 654, "main": main,
            "scores": scores, "config": config, "curves": {"edge": curve}} | changes  # fmt: skip


def line(iteration: int) -> dict[str, Any]:
    """A line of log.jsonl: offsets that grow from 1 to 5 pixels on the finer map."""
    pixels, outside = [1 + (iteration - 1) * 4 / 39, 2.0], [0.0, 0.25]
    return {
        "iteration": iteration,
        "total": 5 / iteration,
        "loss": {"semseg": 5 / iteration},
        "lr": 1e-3,
        "offsets": {"a.attention": {"pixels": pixels, "outside": outside}},
    }


class Reader(HTMLParser):
    """Elements with their attributes, and the rows of tables as lists of texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self.inside_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside_cell = False

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.inside_cell:
            self.rows[-1][-1] += data


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


def compared(one: Path, two: Path) -> tuple[Table, float | None, bool]:
    """Their table, the gain of one over two, and whether bold compares one with two."""
    (table,) = reporting.gather([one, two], reference=two).tables
    gains = {row.origin: row.gain for row in table.rows}
    pictures = {row.pictures for row in table.rows if row.is_run}
    return table, gains["one"], len(pictures) == 1


def bold_runs(table: Table) -> list[str]:
    """The runs of a table that have the best of something, by their folders."""
    lines = as_markdown(table).splitlines()
    return [
        row.origin
        for name, row in zip(table.names(), table.rows)
        if row.is_run and any(f"| {name} " in line and "**" in line for line in lines)
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"scored": {"images": 100}}, {"scored": {"images": 20}}),
        ({"scored": {"split": "train"}}, {}),
        ({"scored": {"pictures": {"a": {}}}}, {"scored": {"pictures": {"b": {}}}}),
        ({"file": {"fingerprint": "a"}}, {"file": {"fingerprint": "b"}}),
        ({"file": {"request": {"size": [6, 8]}}}, {"file": {"request": {}}}),
        ({"scored": {"fingerprint": "a"}}, {"scored": {"fingerprint": "b"}}),
    ],
)
def test_scores_of_different_pictures_are_not_compared(make_run: Maker, first, second) -> None:
    one, two = make_run("one", **first), make_run("two", HALF, **second)
    table, gained, bold = compared(one, two)
    assert gained is None
    assert not bold
    own = first.get("scored", {})
    number, split = own.get("images", 654), own.get("split", "val")
    assert f"one ({number} images of {split}" in table.warning
    assert "two (" in table.warning
    page = Reader(page_of(one, two, reference=two))
    assert table.warning in "".join(page.texts)
    assert table.warning in as_markdown(table)
    assert table.warning.replace("Δ%", r"$\Delta$\%") in as_latex(table)
    assert reporting.gather([one, two]).to_json()["warnings"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({"scored": {"images": 20}}, {"scored": {"images": 20}}),
        ({"file": {"fingerprint": "a"}}, {}),
        ({"file": {"fingerprint": "a", "request": {"archive": "x"}}},
         {"file": {"fingerprint": "a", "request": {"archive": "y"}}}),
        ({"scored": {"fingerprint": "v"}, "file": {"fingerprint": "a"}},
         {"scored": {"fingerprint": "v"}, "file": {"fingerprint": "b"}}),
    ],
)  # fmt: skip
def test_scores_of_the_same_pictures_are_compared(make_run: Maker, first, second) -> None:
    table, gained, bold = compared(make_run("one", **first), make_run("two", HALF, **second))
    assert bold
    assert gained == pytest.approx((100 + 50 + 50 + 100) / 4)
    assert bold_runs(table) == ["one"]


def test_fingerprints_of_runs_with_other_tasks_say_nothing(make_run: Maker) -> None:
    one = make_run("one", file={"fingerprint": "a"})
    two = make_run("two", {"semseg": 0.25}, file={"fingerprint": "b"})
    assert compared(one, two)[1] == pytest.approx(100)


def test_published_rows_are_compared_with_complete_validation_sets_only(make_run: Maker) -> None:
    part = reporting.gather([make_run("one", scored={"images": 20})]).tables[0]
    assert "one (20 images of val); published rows (all 654 images of val)" in part.warning
    assert not bold_runs(part)
    assert [row.gain for row in part.rows if row.is_run] != [None]
    assert "hint only" in part.warning
    several = [
        make_run("some", scored={"images": 20}),
        make_run("worse", HALF, scored={"images": 20}),
    ]
    (group,) = reporting.gather(several).tables
    assert bold_runs(group) == ["some"], "among the same 20 pictures"
    several = [make_run("better", scored={"images": 7}), make_run("least", HALF)]
    (apart,) = reporting.gather(several).tables
    assert "better" not in bold_runs(apart), "alone on its 7 pictures"
    assert any(row.gain for row in part.rows if not row.is_run), "as printed, over each other"
    (whole,) = reporting.gather([make_run("two")]).tables
    assert whole.warning == ""
    assert [row.gain for row in whole.rows if row.is_run] != [None]
    (mixed,) = reporting.gather(
        [make_run("three")], reference=make_run("few", scored={"images": 2})
    ).tables
    assert [row.gain for row in mixed.rows if not row.is_reference] == [None] * (
        len(mixed.rows) - 1
    )


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


# ---- tables to paste ----


def small_table(**changes: Any) -> Table:
    columns = [Column(task="semseg", metric="mIoU", unit="", higher_is_better=True),
               Column(task="depth", metric="RMSE", unit="m", higher_is_better=False)]  # fmt: skip
    rows = [
        Row(system="A", backbone="X", origin="a", scores={"semseg": 0.25, "depth": 0.5}, gain=1.0),
        Row(system="B", backbone="X", origin="b", scores={"semseg": 0.24996, "depth": 0.4}),
        Row(system="C", backbone="Y", origin=NASTY, scores={"semseg": 0.9, "depth": None}),
        Row(system="C", backbone="Y", origin="d", scores={"semseg": 0.1, "depth": 0.1}, gain=-2.0),
    ]
    return Table(title=NASTY, columns=columns, rows=rows, notes=["a note"])


def test_the_best_of_each_backbone_is_bold_ties_as_printed_and_lone_values_not() -> None:
    table = small_table()
    assert best(table, [0, 1]) == {(0, "semseg"), (1, "semseg"), (1, "depth")}
    assert best(table, [2, 3]) == {(2, "semseg")}
    lines = [line for line in as_markdown(table).splitlines() if re.match(r"\| [ABC]", line)]
    bold = [re.findall(r"\*\*([\d.]+)\*\*", line) for line in lines]
    assert bold == [["0.2500"], ["0.2500", "0.4000"], ["0.9000"], []]


def test_markdown_keeps_its_columns_whatever_names_hold() -> None:
    rows = [line for line in as_markdown(small_table()).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 4
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}


def test_latex_is_balanced_and_every_row_has_its_columns() -> None:
    text = as_latex(small_table())
    begun = re.findall(r"\\begin\{(\w+)\}", text)
    assert begun == re.findall(r"\\end\{(\w+)\}", text)[::-1] == ["table", "tabular"]
    columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1])  # type: ignore[index]
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(rows) == 1 + 4
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {columns} == {5}
    assert text.count(r"\midrule") == 2
    body = text.split(r"\midrule", 1)[1].split(r"\bottomrule")[0]
    assert re.search(r"(?<!\\)[%#_]", body) is None
    assert r"\textbackslash{}" in body
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0


def test_tables_go_to_stdout_or_to_a_file(make_run: Maker, mtl, tmp_path: Path) -> None:
    folder = make_run("one")
    printed = mtl("report", folder, "--markdown")
    assert "| DeMT-ITSA (one) " in printed.out
    answer = mtl("report", folder, "--latex", "--out", tmp_path / "table.tex")
    assert str(tmp_path / "table.tex") in answer.out
    assert r"\begin{tabular}" in (tmp_path / "table.tex").read_text()


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
    from mtlcli.training.record import describe

    tasks = ("semseg", "depth", "edge", "sal")
    config = RunConfig(dataset="rooms", tasks=tasks, system="multi_task", size=(48, 64),
                       backbone="resnet18_half", init="random")  # fmt: skip
    dataset = describe(Reader(home / "datasets" / "rooms.h5", "val"))
    torch.manual_seed(0)
    network = checkpoint.build_network(config, dataset)
    folder = home / "weights" / "run"
    folder.mkdir(parents=True)
    record = {"config": config.to_json(), "dataset": dataset}
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


def test_pictures_are_ranked_by_all_their_tasks() -> None:
    scores = {
        "a": {"up": 0.9, "down": 3.0},
        "b": {"up": 0.5, "down": 1.0},
        "c": {"up": 0.8, "down": 1.0},
        "d": {"up": None, "down": 9.0},
        "e": {},
    }
    assert ranked(scores, {"up": True, "down": False}) == ["c", "a", "b", "d"]


def drawn(task: str, prediction: np.ndarray, label: np.ndarray | None) -> tuple[Map, str]:
    """A tile of the gallery: its record and its text."""
    its = lookup.load("tasks", task).TASK
    dataset = {"palettes": {}, "classes": {task: ["background", "head"]}}
    found = draw(its, prediction, label, None, dataset, task)
    return found, " ".join(Reader(tile(found, "x")).texts)


def test_the_key_of_depth_says_where_colours_end_before_the_values() -> None:
    label = np.linspace(2, 4, 48 * 64, dtype=np.float32).reshape(1, 48, 64)
    for metres, said in ((1.0, "≤ 2.0 m (bright) to 4.0 m"), (9.0, "2.0 m (bright) to ≥ 4.0 m"),
                         (3.0, "2.0 m (bright) to 4.0 m")):  # fmt: skip
        assert said in drawn("depth", np.full_like(label, metres), label)[1]


@pytest.mark.parametrize("task", ["human_parts", "sal", "depth"])
def test_a_label_that_says_nothing_is_not_drawn_and_the_key_says_so(task: str) -> None:
    predicted = np.zeros((48, 64), np.uint8)
    ignore = lookup.load("tasks", task).TASK.ignore
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


# ---- charts and markup ----


def test_a_chart_leaves_out_what_it_cannot_draw_and_stays_inside_its_frame() -> None:
    values = [1.0, math.nan, -1.0, 1e-3, math.inf, 10.0]
    line = Line(name="<a>", x=[0, 1, 2, 3, 4, 5], y=values)
    svg = chart("t", [line], across="x", logarithmic=True)
    (places,) = re.findall(r'points="([^"]*)"', svg)
    points = [tuple(map(float, place.split(","))) for place in places.split()]
    assert len(points) == 3
    assert all(0 <= x <= 420 and 0 <= y <= 250 for x, y in points)
    assert "&lt;a&gt;" in svg
    assert chart("t", [Line(name="n", x=[1], y=[math.nan])], across="x") == ""


def test_long_curves_keep_their_ends_and_mean() -> None:
    line = Line(name="n", x=list(range(10_000)), y=[1.0] * 10_000)
    (places,) = re.findall(r'points="([^"]*)"', chart("t", [line], across="x", y=(0, 2)))
    assert 100 <= len(places.split()) <= 200
    assert len({place.split(",")[1] for place in places.split()}) == 1


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.0, 40_000.0), (-0.3, 0.1), (7.0, 7.5)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    assert all(low <= v <= high for v in found)


def heights(svg: str) -> list[float]:
    """Where along y the points of a chart's lines lie."""
    lines = re.findall(r'points="([^"]*)"', svg)
    return [float(place.split(",")[1]) for line in lines for place in line.split()]


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("values", [(8.499, 8.5), (0.4, 0.4001), (7.0, 7.0)])
def test_noise_is_drawn_as_a_level_line_away_from_the_frame(values, logarithmic: bool) -> None:
    lines = [Line(name="n", x=[0, 1], y=values)]
    svg = chart("t", lines, across="x", logarithmic=logarithmic)
    found = heights(svg)
    assert max(found) - min(found) < 3, "of 202 pixels"
    assert all(TOP + 50 < y < HEIGHT - BOTTOM - 50 for y in found)
    assert all(len(number) <= 5 for number in re.findall(r">([\d.]+)</text>", svg))


def test_a_curve_fills_its_chart_and_shares_have_no_room_below_zero() -> None:
    found = heights(chart("t", [Line(name="n", x=[0, 1], y=[0.0, 0.5])], across="x"))
    assert TOP < min(found) < TOP + 15
    assert HEIGHT - BOTTOM - 15 < max(found) < HEIGHT - BOTTOM
    low, high = limits(0.0, 0.0)
    assert -0.1 < low < 0 < high


def test_curves_png_has_plain_numbers_and_names_below_the_curves() -> None:
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    for curves, logarithmic in (({"a": ([1, 2], [8.499, 8.5])}, False),
                                ({"b": ([1, 2], [0.21, 2.5])}, True)):  # fmt: skip
        axes = figure.add_subplot(label=str(logarithmic))
        draw_panel(axes, curves, logarithmic=logarithmic)
        figure.draw_without_rendering()
        written = [text.get_text() for text in axes.get_yticklabels(which="both")]
        assert all(re.fullmatch(r"[\d.]{1,4}", text) for text in written), written
        low, high = axes.get_ylim()
        assert high / low > 1.08
        assert axes.get_legend().get_window_extent().y1 < axes.get_window_extent().y0
        axes.remove()


def test_log_ticks_are_inside() -> None:
    assert log_ticks(0.01, 100) == [0.01, 0.1, 1, 10, 100]
    assert len(log_ticks(1.1, 1.9)) > 1


def test_only_markup_stays_as_it_is() -> None:
    assert tag("p", "<b>", Html("<b></b>"), None, 1, title='"') == (
        '<p title="&quot;">&lt;b&gt;<b></b>1</p>'
    )
