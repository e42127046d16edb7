"""Human part segmentation: background, head, torso, upper and lower arms, upper and lower legs.

Images without a person are ignored as a whole (PASCAL-Context protocol).
"""

from mtlcli.maps import classes
from mtlcli.tasks._shared import (
    confusion,
    cross_entropy,
    intersection_over_union,
    most_likely_class,
)
from mtlcli.tasks._task import Task

TASK = Task(
    title="Human parts",
    question="which part of a body it is",
    map=classes.MAP,
    holds="the body part at every pixel",
    channels=None,
    weight=2.0,
    metric="mIoU",
    unit="",
    higher_is_better=True,
    loss=cross_entropy,
    decode=most_likely_class,
    measure=confusion,
    score=intersection_over_union,
)
