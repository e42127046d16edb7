"""The report in a real browser: what is looked at comes first, is large, and nothing is hidden."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtlcli.report import assemble
from mtlcli.report.gallery import Example, Map
from tests.made_runs import write_run


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two runs of five tasks with pictures, one of which lacks its scores."""
    folder = tmp_path_factory.mktemp("report")
    runs = [write_run(folder / "a_long_name_of_a_run"), write_run(folder / "two", None)]
    report = assemble.gather(runs)
    drawn = np.full((360, 480, 3), 120, np.uint8)
    shown = Map(title="Depth", metric="RMSE", unit="m", score=1.0, prediction=drawn, label=drawn)
    report.examples["two"] = [Example(place="best", ident="0", image=drawn, maps=[shown] * 5)]
    path = folder / "report.html"
    path.write_text(assemble.as_page(report))
    return path


@pytest.fixture(params=[1280, 390])
def tab(request: Any, browser: Any, page: Path) -> Any:
    """The page at two widths."""
    tab = browser.new_page(viewport={"width": request.param, "height": 900})
    tab.goto(page.as_uri())
    yield tab
    tab.close()


def test_results_come_first_then_pictures_then_what_is_missing(tab: Any) -> None:
    assert tab.locator("h2").all_inner_texts()[:3] == ["Results", "Pictures", "Not shown"]
    results, warned = (tab.locator(s).first.bounding_box() for s in ("#results table", ".missing"))
    assert results["y"] < warned["y"]


def test_pictures_are_large_and_the_page_is_no_wider_than_the_window(tab: Any) -> None:
    width = tab.viewport_size["width"]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    for image in tab.locator(".maps img").all():
        assert image.bounding_box()["width"] >= min(280, 0.9 * width)


def test_a_table_that_is_cut_says_that_it_scrolls_and_does(tab: Any) -> None:
    frame = tab.locator("#results .wide")
    is_cut = frame.evaluate("e => e.scrollWidth > e.clientWidth")
    assert is_cut == (tab.viewport_size["width"] == 390)
    assert frame.locator(".scrolls").is_visible() == is_cut
    frame.evaluate("e => e.scrollLeft = 1e6")
    last = frame.locator("thead th").last.bounding_box()
    assert last["x"] + last["width"] <= tab.viewport_size["width"]


def test_tiles_fill_their_rows(browser: Any, page: Path) -> None:
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(page.as_uri())
    tiles = [tile.bounding_box() for tile in tab.locator(".maps > figure").all()]
    rows = Counter(round(tile["y"]) for tile in tiles)
    assert sorted(rows.values()) == [3, 3], "the picture and five maps"
    tab.close()


def test_truth_and_prediction_are_told_apart(tab: Any) -> None:
    told = tab.locator(".marked small").all_inner_texts()
    assert told == ["prediction", "truth"] * 5
    for mark, image in zip(tab.locator(".marked small").all(), tab.locator(".marked img").all()):
        inner, outer = mark.bounding_box(), image.bounding_box()
        assert (
            outer["y"] < inner["y"] < inner["y"] + inner["height"] <= outer["y"] + outer["height"]
        )
