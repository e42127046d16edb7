"""Saliency: does a pixel belong to what one looks at first?"""

from mtlcli import colors, constant, decode, deviation, encode, keys, losses, metrics
from mtlcli.tasks._task import Task, as_stored

TASK = Task(
    title="Saliency",
    holds="probability that a pixel belongs to what one looks at first",
    channels=2,
    weight=5.0,
    ignore=255,
    metric="maxF",
    unit="",
    higher_is_better=True,
    target=as_stored,
    loss=losses.balanced_cross_entropy,
    decode=decode.foreground_probability,
    measure=metrics.foreground_counts,
    score=metrics.maximal_f,
    curve=metrics.foreground_curve,
    constant=constant.class_log_frequency,
    encode=encode.as_bytes,
    draw=colors.draw_probability,
    key=keys.of_probability,
    deviation=deviation.of_probability,
)
