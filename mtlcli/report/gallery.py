"""The best, the median and the worst picture of a run, with its predictions and labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from mtlcli.data.batches import WholePictures
from mtlcli.data.hdf5 import Info
from mtlcli.data.reader import Reader
from mtlcli.drawing.prediction import logits_of, maps_of
from mtlcli.drawing.scales import ranges
from mtlcli.errors import InputError
from mtlcli.files import typed
from mtlcli.home import datasets_dir
from mtlcli.maps import classes
from mtlcli.maps._map import Map as AnyMap
from mtlcli.maps._map import Options, Scale
from mtlcli.report.chart import Html, tag
from mtlcli.report.page import colours, note, picture
from mtlcli.runs.checkpoint import Trained
from mtlcli.runs.folder import RESULTS
from mtlcli.runs.names import spoken
from mtlcli.runs.run import Run
from mtlcli.runs.table import number
from mtlcli.tasks._shared import cut_out
from mtlcli.tasks._task import Task

RGB = tuple[int, int, int]
SIDE = 480  # pixels along the longer side of a drawn map
OFF = "the truth has its own scale"
ABREAST = 4  # tiles in a row at most; no row is left with much less than the others
NAMED = 8  # classes in a legend at most


@dataclass(frozen=True, kw_only=True)
class Map:
    """One task of one picture."""

    title: str
    metric: str
    unit: str
    score: float | None  # of this picture alone
    prediction: np.ndarray  # drawn, RGB (H, W, 3) uint8
    label: np.ndarray | None  # drawn alike, None where no pixel has one
    classes: Mapping[str, RGB] = field(default_factory=dict)  # the most frequent ones in sight
    reach: tuple[str, str] | None = None  # what the ends of the colours mean
    label_reach: tuple[str, str] | None = None  # where those of the label mean something else


@dataclass(frozen=True, kw_only=True)
class Example:
    """One picture."""

    place: str  # best, median or worst
    ident: str
    image: np.ndarray  # RGB (H, W, 3) uint8
    maps: Sequence[Map]


def lay_out(example: Example) -> list[Html]:
    """The picture and, for each task, the prediction over the truth."""
    image = picture(example.image, f"picture {example.ident}", exact=False)
    tiles = [tag("figure", tag("figcaption", "Image", tag("span", example.ident)), image)]
    tiles += [tile(each, example.ident) for each in example.maps]
    rows = -(-len(tiles) // ABREAST)
    columns = f"--columns: {-(-len(tiles) // rows)}"
    shown = tag("div", *tiles, class_="maps", style=columns)
    return [tag("h4", f"{example.place}: {example.ident}"), shown]


def tile(shown: Map, ident: str) -> Html:
    """One task."""
    score = number(shown.score or 0, shown.unit)
    unit = {"m": " m"}.get(shown.unit, shown.unit)
    flat = bool(shown.classes)
    drawn = picture(shown.prediction, f"{shown.title} predicted for {ident}", exact=flat)
    pictures = [marked(drawn, "prediction")]
    if shown.label is not None:
        drawn = picture(shown.label, f"{shown.title} labelled in {ident}", exact=flat)
        pictures.append(marked(drawn, "truth"))
    said = "not scored" if shown.score is None else f"{shown.metric} {score}{unit}"
    caption = tag("figcaption", shown.title, tag("span", said))
    reach = shown.reach and note(scales(shown.reach, shown.label_reach))
    unlabelled = note("no label in this picture") if shown.label is None else None
    keyed = tag("div", unlabelled, reach, colours(shown.classes))
    return tag("figure", caption, tag("div", *pictures), keyed)


def marked(drawn: Html, kind: str) -> Html:
    """A picture with what it is written into its corner."""
    return tag("div", drawn, tag("small", kind), class_="marked")


def scales(own: tuple[str, str], label: tuple[str, str] | None) -> str:
    """What the colours of the prediction mean, and those of the label where they differ."""
    if label is None:
        return between(*own)
    return f"above {between(*own)}; {OFF}: below {between(*label)}"


def between(low: str, high: str) -> str:
    """What the two ends of the colours mean; see `mtlcli.maps._map.Scale`."""
    return f"{low} (bright) to {high}".replace("<", "≤ ").replace(">", "≥ ")


def examples(run: Run, trained: Trained) -> list[Example]:
    """Three pictures of the split that was scored.

    Raises:
        InputError: the dataset is not there or is another one; results.json has no pictures.
    """
    results, named = run.results, spoken(run.folder)
    scores = results.pictures if results else None
    if not results or not results.split or not scores:
        raise InputError(
            f"{RESULTS} of {named} has no scores of single pictures: run "
            f"`mtl eval {typed(named)}` again."
        )
    reader = Reader(datasets_dir() / f"{run.config.dataset}.h5", results.split)
    tasks = trained.tasks
    order = rank_pictures(scores, {n: t.higher_is_better for n, t in tasks.items()})
    if not order:
        raise InputError(f"{RESULTS} of {named} has no picture with a score of its own.")
    absent = set(order) - set(reader.ids)
    if absent:
        raise InputError(
            f"{reader.path} has no picture {min(absent)}: it is not the file that "
            f"{named} was scored on; run `mtl eval {typed(named)}` again."
        )
    return [
        example(place, ident, scores[ident], reader, trained)
        for place, ident in places(order).items()
    ]


def places(order: Sequence[str]) -> dict[str, str]:
    """Best, median and worst of ranked pictures, none twice."""
    chosen = {"best": order[0], "worst": order[-1], "median": order[len(order) // 2]}
    kept = {ident: place for place, ident in reversed(chosen.items())}
    return {place: ident for ident, place in sorted(kept.items(), key=lambda c: order.index(c[0]))}


def rank_pictures(
    scores: Mapping[str, Mapping[str, float | None]], higher_is_better: Mapping[str, bool]
) -> list[str]:
    """Pictures from the best to the worst: by their mean rank over the tasks they are labelled for.

    Args:
        scores: picture -> task -> main score of that picture alone, None where there is none.
        higher_is_better: task -> direction.
    """
    ranks: dict[str, list[float]] = {ident: [] for ident in scores}
    for task, higher in higher_is_better.items():
        known = {i: s[task] for i, s in scores.items() if s.get(task) is not None}
        values = np.array(list(known.values()), float)
        better = -values if higher else values
        ordered = np.sort(better)
        middle = np.searchsorted(ordered, better) + np.searchsorted(ordered, better, "right")
        for ident, rank in zip(known, middle / (2 * max(len(known), 1))):
            ranks[ident].append(rank)
    labelled = {ident: float(np.mean(each)) for ident, each in ranks.items() if each}
    return sorted(labelled, key=lambda ident: (labelled[ident], ident))


def example(
    place: str,
    ident: str,
    scores: Mapping[str, float | None],
    reader: Reader,
    trained: Trained,
) -> Example:
    """A picture as evaluation sees it, and what the network makes of it."""
    index, tasks = reader.ids.index(ident), trained.tasks
    scale, moments = trained.resolution(reader.info), trained.config.moments
    sample = WholePictures(reader, tasks, scale, [index], trained.size, moments=moments)[0]
    image, inside = sample["image"], sample["inside"].tolist()
    logits = {
        n: cut_out(x, image.shape[1:], inside) for n, x in logits_of(trained, image[None]).items()
    }
    maps = maps_of(trained, logits, tuple(sample["size"].tolist()))
    drawn = [
        draw(task, maps[name], sample.get(name), scores.get(name), trained.dataset, name)
        for name, task in tasks.items()
    ]
    image = shrink(reader.read("image", index), exact=False)
    return Example(place=place, ident=ident, image=image, maps=drawn)


def draw(
    task: Task,
    prediction: np.ndarray,
    label: np.ndarray | None,
    score: float | None,
    dataset: Info,
    name: str,
) -> Map:
    """Prediction and label in the same colours, by the range of the label; a label that says
    nothing of any pixel is none.
    """
    if label is not None and not (label != task.map.unlabelled).any():
        label = None
    its, options = task.map, dataset.drawing(name)
    labelled = options
    if its.scale and label is None:
        options = labelled = options | its.scale(prediction)
    elif its.scale and label is not None:
        truth, (own,) = ranges(its, label, [prediction])
        options, labelled = {**options, **own}, {**options, **truth}
    exact = prediction.ndim == 2
    return Map(
        title=task.title,
        metric=task.metric,
        unit=task.unit,
        score=score,
        prediction=shrink(its.draw(prediction, options), exact=exact),
        label=None if label is None else shrink(its.draw(label, labelled), exact=exact),
        classes=in_sight(prediction, label, options) if exact else {},
        reach=reach(its, prediction, options),
        label_reach=reach(its, label, labelled) if options != labelled else None,
    )


def reach(its: AnyMap, values: np.ndarray | None, options: Options) -> tuple[str, str] | None:
    """What the ends of a map's colours mean, where they are a scale."""
    key = None if values is None or not its.scale else its.key(values, options)
    return (key.low, key.high) if isinstance(key, Scale) else None


def in_sight(
    prediction: np.ndarray, label: np.ndarray | None, options: Mapping[str, Any]
) -> dict[str, RGB]:
    """The most frequent classes of a prediction and its label, "no label" among them, with their
    colours.
    """
    seen = [prediction.ravel(), *([] if label is None else [label.ravel()])]
    return dict(classes.key(np.concatenate(seen), options).entries[:NAMED])


def shrink(picture: np.ndarray, exact: bool) -> np.ndarray:
    """At most `SIDE` pixels along the longer side."""
    height, width = picture.shape[:2]
    factor = SIDE / max(height, width)
    if factor >= 1:
        return picture
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST if exact else cv2.INTER_AREA)
