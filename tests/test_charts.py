"""Charts show what they are given, inside their frame, and no noise larger than it is."""

import math
import re

import pytest

from mtlcli.report.chart import (
    BOTTOM,
    HEIGHT,
    TOP,
    Html,
    Line,
    chart,
    limits,
    log_ticks,
    tag,
    ticks,
)
from mtlcli.report.figures import offsets, single


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


def test_log_ticks_are_inside() -> None:
    assert log_ticks(0.01, 100) == [0.01, 0.1, 1, 10, 100]
    assert len(log_ticks(1.1, 1.9)) > 1


def test_only_markup_stays_as_it_is() -> None:
    assert tag("p", "<b>", Html("<b></b>"), None, 1, title='"') == (
        '<p title="&quot;">&lt;b&gt;<b></b>1</p>'
    )


@pytest.mark.parametrize(("attentions", "levels"), [(2, 1), (7, 3), (9, 2), (30, 1)])
def test_however_many_attentions_every_line_has_its_own_colour(
    attentions: int, levels: int
) -> None:
    spread = {"pixels": [1.0] * levels, "outside": [0.5] * levels}
    names = [f"decoder.blocks.{i}.attention" for i in range(attentions)]
    log = [{"iteration": i, "offsets": dict.fromkeys(names, spread)} for i in (1, 2)]
    page = "".join(single("run", log))
    drawn: list[str] = []
    for figure in re.findall(r"<figure.*?</figure>", page, re.S):
        (title,) = re.findall(r"<figcaption>(.*?)</figcaption>", figure)
        lines = re.findall(r'stroke="(#\w+)"></line></svg> ([^<]+)<', figure)
        assert len({colour for colour, _ in lines}) == len(lines) <= 8
        assert "dasharray" not in figure
        what, level = re.findall(r"^(.*), map (1/\d+)", title)[0]
        drawn += [f"{what} {level} {name}" for _, name in lines]
    assert len(drawn) == len(set(drawn)) == 2 * attentions * levels


def test_the_maps_of_a_single_run_share_a_chart() -> None:
    log = [{"iteration": 1, "offsets": {"a": {"pixels": [1.0, 2.0], "outside": [0.1, 0.2]}}}]
    for runs, count in ((("one",), 2), (("one", "two"), 4)):
        page = "".join(offsets(dict.fromkeys(runs, log), {}))
        assert page.count("<figure") == count


def test_both_axes_can_be_named() -> None:
    svg = chart("t", [Line(name="n", x=[0, 1], y=[0, 1])], across="recall", up="precision")
    across, up = (re.search(f"<text[^>]*>{name}<", svg) for name in ("recall", "precision"))
    assert across
    assert "rotate" not in across[0]
    assert up
    assert "rotate(-90)" in up[0]
