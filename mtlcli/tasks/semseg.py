"""Semantic segmentation: the class of every pixel."""

from mtlcli import colors, constant, decode, deviation, encode, keys, losses, metrics
from mtlcli.tasks._task import Task, as_stored

TASK = Task(
    title="Semantic segmentation",
    holds="the class of every pixel",
    channels=None,
    weight=1.0,
    ignore=255,
    metric="mIoU",
    unit="",
    higher_is_better=True,
    target=as_stored,
    loss=losses.cross_entropy,
    decode=decode.most_likely_class,
    measure=metrics.confusion,
    score=metrics.intersection_over_union,
    constant=constant.class_log_frequency,
    encode=encode.as_classes,
    draw=colors.draw_classes,
    key=keys.of_classes,
    deviation=deviation.of_classes,
    balances_crops=True,
)
