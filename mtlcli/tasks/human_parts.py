"""Human part segmentation: background, head, torso, upper and lower arms, upper and lower legs.

Images without a person are ignored as a whole, and so is a training crop that shows no part
(PASCAL-Context protocol; see `mtlcli.maps.parts`).
"""

from mtlcli.maps import parts
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
    map=parts.MAP,
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
