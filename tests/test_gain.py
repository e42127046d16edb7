"""Delta%: the paper's own numbers, its sign, and what it refuses."""

import math
from collections import Counter

import pytest

from mtlcli import lookup
from mtlcli.errors import InputError
from mtlcli.recipes._recipe import recipe, recipes
from mtlcli.runs.comparison import compare, gain, shared_tasks
from mtlcli.runs.limits import say_other_means
from mtlcli.runs.run import Run

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


@pytest.mark.parametrize(
    ("own", "its", "said"),
    [
        ({"depth": 0.5}, {"semseg": 0.5}, "the run has scores of depth, the reference of semseg"),
        ({"depth": None}, {"depth": 0.5}, "the run has scores of nothing, the reference of depth"),
        ({"depth": 0.5, "semseg": 0.5}, {"depth": 0.5, "semseg": 0.0}, "reference's semseg is 0.0"),
    ],
)
def test_scores_without_a_gain_are_still_compared_and_say_why(make_run, own, its, said) -> None:
    run, reference = (
        Run.read(make_run(name, main, scored={"curves": {}}))
        for name, main in zip("ab", (own, its))
    )
    found = compare(run, DIRECTIONS, reference)
    assert found.gain is None
    assert said in " ".join(found.notes())
    assert reference.main in found.rows().values()


NYUD = {"positive_weight": 0.8, "max_dist": 0.011, "protocol": "seism", "gt_as": "partition"}
PASCAL = {"positive_weight": 0.95, "max_dist": 0.0075, "protocol": "seism", "gt_as": "partition"}
PASCAL_SCORES = {"semseg": 0.5, "human_parts": 0.5, "sal": 0.8, "normals": 15.0, "edge": 0.7}


def counted(edge: int, every: int) -> dict[str, dict[str, float]]:
    return {str(i): ({"edge": 0.5} if i < edge else {}) for i in range(every)}


@pytest.mark.parametrize(
    ("dataset", "scored", "file", "limits"),
    [
        ("nyud", {}, {}, ()),
        ("nyud", {"options": {"edge": NYUD}}, {"shape": [425, 560]}, ()),
        ("nyud", {"images": 3}, {}, ("3 of 654 pictures",)),
        ("nyud", {"split": "train", "images": 795}, {}, ("pictures of train",)),
        ("nyud", {"split": "train", "images": 654}, {}, ("pictures of train",)),
        ("nyud", {}, {"derived": ["normals", "edge"]}, ("labels derived here: normals, edge",)),
        ("nyud", {}, {"shape": [480, 640]}, ("pictures of 480x640 instead of 425x560",)),
        ("nyud", {"options": {"edge": {**NYUD, "protocol": "mti", "gt_as": "boundary"}}}, {},
         ("edge protocol mti instead of seism", "edge gt_as boundary instead of partition")),
        ("nyud", {"options": {"edge": {**NYUD, "ids": ["0001", "0002"]}}}, {},
         ("edge on 2 instead of 654 pictures",)),
        ("nyud", {"options": {"edge": {**NYUD, "ids": ["x"] * 654}}}, {}, ()),
        ("nyud", {"images": 3}, {"derived": ["edge"]},
         ("3 of 654 pictures", "labels derived here: edge")),
        ("pascal", {"images": 5105}, {}, ("edge on 5105 instead of 2498 pictures",)),
        ("pascal", {"images": 5105, "pictures": counted(2498, 5105)}, {}, ()),
        ("pascal", {"images": 5105, "pictures": counted(2000, 5105)}, {},
         ("edge on 2000 instead of 2498 pictures",)),
        ("pascal", {"images": 5105, "options": {"edge": {**PASCAL, "ids": ["x"] * 2498}}}, {}, ()),
        ("pascal", {"images": 5105, "pictures": counted(2498, 5105),
                    "options": {"edge": {k: v for k, v in PASCAL.items() if k != "gt_as"}}}, {},
         ("edge gt_as unset instead of partition",)),
    ],
)  # fmt: skip
def test_a_gain_over_published_scores_says_what_it_does_not_share_with_them(
    make_run, dataset: str, scored: dict, file: dict, limits: tuple[str, ...]
) -> None:
    scores = PASCAL_SCORES if dataset == "pascal" else {"semseg": 0.4, "depth": 0.6,
                                                        "normals": 20.0, "edge": 0.77}  # fmt: skip
    folder = make_run("a", scores, dataset=dataset, scored=scored, file=file)
    run = Run.read(folder)
    found = compare(run, DIRECTIONS)
    assert found.limits == limits
    note = next(n for n in found.notes() if n.startswith("Δ% of this run: against published"))
    assert note.endswith(f"(indicative: {'; '.join(limits)})." if limits else "edge.")
    assert "indicative" not in " ".join(compare(run, DIRECTIONS, run).notes()), "own reference"


@pytest.mark.parametrize(("over_all", "said"), [(0.25, ["0.2500"]), (0.5, []), (None, [])])
def test_the_mean_over_all_classes_is_said_where_it_is_another(make_run, over_all, said) -> None:
    scores = {"semseg": {"mIoU": 0.5, "mIoU/all": over_all}, "depth": {"RMSE": 0.25}}
    main = {"semseg": 0.5, "depth": 0.25}
    run = Run.read(make_run("a", main, scored={"scores": scores, "curves": {}}))
    lines = say_other_means(run.results, run.tasks)
    assert [value for line, value in zip(lines, said) if value in line] == said
    assert len(lines) == len(said)
