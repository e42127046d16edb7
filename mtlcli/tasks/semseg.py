"""Semantic segmentation: the class of every pixel."""

from mtlcli.maps import classes
from mtlcli.tasks._shared import (
    confusion,
    cross_entropy,
    intersection_over_union,
    most_likely_class,
)
from mtlcli.tasks._task import Task

TASK = Task(
    title="Semantic segmentation",
    question="what it is",
    map=classes.MAP,
    holds="the class of every pixel",
    channels=None,
    weight=1.0,
    metric="mIoU",
    unit="",
    higher_is_better=True,
    loss=cross_entropy,
    decode=most_likely_class,
    measure=confusion,
    score=intersection_over_union,
    balances_crops=True,
)
