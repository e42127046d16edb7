"""In which range a label and what was predicted for it are drawn: one that holds both, unless the
prediction is so far off that one of them would be all one colour in it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from mtlcli.maps._map import Map

Range = Mapping[str, float]  # "near" and "far", options of `Map.draw`
ROOM = 1.0  # times its own extent, that a label's range may grow at each end
LEAST = 0.1  # of the far end, that counts as the extent of a label that is all one value
OWN = "off the scale of the truth: has its own"


def ranges(
    its: Map, label: np.ndarray, predictions: Sequence[np.ndarray]
) -> tuple[Range, list[Range]]:
    """The label's range, and that of each prediction: the same where the prediction's overlaps the
    label's and goes no further beyond it than `ROOM`, else its own.

    Args:
        its: a kind of map that has a scale.
        label: target with some pixels labelled.
        predictions: of the same picture.
    """
    assert its.scale
    truth, own = its.scale(label), [its.scale(each) for each in predictions]
    room = ROOM * max(truth["far"] - truth["near"], LEAST * truth["far"])
    low, high = truth["near"] - room, truth["far"] + room
    near = [
        each
        for each in own
        if low <= each["near"] <= truth["far"] and truth["near"] <= each["far"] <= high
    ]
    shared = {
        "near": min(each["near"] for each in (truth, *near)),
        "far": max(each["far"] for each in (truth, *near)),
    }
    return shared, [shared if each in near else each for each in own]
