"""Pictures of a run with predictions over labels, as a part of the page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mtlcli.report.markup import Html, tag
from mtlcli.report.page import colours, note, picture
from mtlcli.runs.table import number

RGB = tuple[int, int, int]


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


@dataclass(frozen=True, kw_only=True)
class Example:
    """One picture."""

    place: str  # best, median or worst
    ident: str
    image: np.ndarray  # RGB (H, W, 3) uint8
    maps: Sequence[Map]


def shown(example: Example) -> list[Html]:
    """The picture and, for each task, the prediction over the label."""
    image = picture(example.image, f"picture {example.ident}", exact=False)
    tiles = [tag("figure", tag("figcaption", "Image", tag("span", example.ident)), image)]
    tiles += [tile(each, example.ident) for each in example.maps]
    return [tag("h4", f"{example.place}: {example.ident}"), tag("div", *tiles, class_="maps")]


def tile(shown: Map, ident: str) -> Html:
    """One task."""
    score = number(math.nan if shown.score is None else shown.score, shown.unit)
    unit = {"m": " m"}.get(shown.unit, shown.unit) if shown.score is not None else ""
    flat = bool(shown.classes)
    pictures = [picture(shown.prediction, f"{shown.title} predicted for {ident}", exact=flat)]
    if shown.label is not None:
        pictures.append(picture(shown.label, f"{shown.title} labelled in {ident}", exact=flat))
    caption = tag("figcaption", shown.title, tag("span", f"{shown.metric} {score}{unit}"))
    reach = shown.reach and note(between(*shown.reach))
    unlabelled = note("no label in this picture") if shown.label is None else None
    keyed = tag("div", unlabelled, reach, colours(shown.classes))
    return tag("figure", caption, tag("div", *pictures), keyed)


def between(low: str, high: str) -> str:
    """What the two ends of the colours mean; see `mtlcli.maps._keys.Scale`."""
    return f"{low} (bright) to {high}".replace("<", "≤ ").replace(">", "≥ ")
