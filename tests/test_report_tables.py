"""Tables of runs: what is compared with what, what is best, and text that can be pasted."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtlcli.report import assemble as reporting
from mtlcli.report.paper_table import Column, Row, Table, as_latex, as_markdown, best
from tests.made_runs import HALF, Reader

NASTY = '<script>alert("1")</script> & %_{}#$^~\\ | `x`'
Maker = Callable[..., Path]


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
    page = Reader(reporting.as_page(reporting.gather([one, two], reference=two)))
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
    other = {"scored": {"curves": {}}, "file": {"fingerprint": "b"}}
    two = make_run("two", {"semseg": 0.25}, **other)
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
