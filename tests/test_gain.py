"""Delta%: the paper's own numbers, its sign, and what it refuses."""

import math
from collections import Counter

import pytest

from mtlcli import lookup
from mtlcli.errors import InputError
from mtlcli.recipes._recipe import recipe, recipes
from mtlcli.runs.comparison import gain, shared_tasks

DIRECTIONS = {name: lookup.load("tasks", name).TASK.higher_is_better for name in
              lookup.names("tasks")}  # fmt: skip
PRINTED = [
    (r, published)
    for r in recipes().values()
    for published in r.published
    if published.gain is not None
]


def test_every_row_of_tables_1_to_5_is_there():
    tables = Counter(published.source.rpartition(" ")[2] for _, published in PRINTED)
    assert tables == {"1": 12, "2": 7, "3": 5, "4": 6, "5": 3}


@pytest.mark.parametrize(
    ("name", "published"), [(r.name, published) for r, published in PRINTED]
)  # fmt: skip
def test_printed_gains_follow_from_the_printed_metrics(name, published):
    reference = recipe(published.reference).published[0].scores
    found = gain(published.scores, reference, DIRECTIONS)
    tolerance = 0.5 if published.gain == -104 else 0.02
    assert found == pytest.approx(published.gain, abs=tolerance)


def test_lower_is_better_turns_the_sign():
    better = {"up": True, "down": False}
    assert gain({"up": 1.1, "down": 0.8}, {"up": 1.0, "down": 1.0}, better) == pytest.approx(15)
    assert gain({"up": 0.9, "down": 1.2}, {"up": 1.0, "down": 1.0}, better) == pytest.approx(-15)


def test_only_tasks_that_both_have_count():
    assert gain({"a": 2.0, "b": 9.0}, {"a": 1.0, "c": 5.0}, {"a": True, "b": True}) == 100
    assert shared_tasks({"a": math.nan, "b": 1.0}, {"a": 1.0, "b": 2.0}) == ["b"]


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="Nothing to compare"):
        gain({"a": 1.0}, {"b": 1.0}, {"a": True})
    with pytest.raises(InputError, match="reference's a is 0"):
        gain({"a": 1.0}, {"a": 0.0}, {"a": True})
