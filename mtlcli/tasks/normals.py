"""Surface normals: unit vectors that point away from the camera, in its frame (x right, y down,
z forward).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mtlcli.maps import directions
from mtlcli.maps._map import NO_OPTIONS, Options
from mtlcli.tasks._shared import Statistics, masked_mean, mean_of
from mtlcli.tasks._task import Task

SHORTEST = 1e-12  # length by which a vector is divided at least


def normals_l1(logits: Tensor, target: Tensor, options: Options = NO_OPTIONS) -> Tensor:
    """L1 distance between the normalised prediction and the target, summed over x, y, z.

    target (B, 3, H, W) unit vectors, the zero vector ignored. Per pixel, not per pixel and channel:
    ATRC's and DeMT's convention (MTI-Net divides by 3 once more).
    """
    distance = (F.normalize(logits, dim=1) - target).abs().sum(dim=1)
    return masked_mean(distance, target.ne(0).any(dim=1))


def unit_vectors(logits: Tensor) -> Tensor:
    """(B, 3, H, W) vectors of length 1."""
    vectors = logits.float()
    return vectors / vectors.square().sum(dim=1, keepdim=True).sqrt().clamp(min=SHORTEST)


def angular_error(logits: Tensor, target: Tensor, options: Options) -> Statistics:
    """`sum` of the angles (degrees, float64) to the label over the `count` labelled pixels.

    The angle is 2 atan2(|a - b|, |a + b|) of the unit vectors a, b, exact for small and large
    angles alike.
    """
    valid = target.ne(0).any(dim=0)
    a = F.normalize(logits.double(), dim=0)[:, valid]
    b = F.normalize(target.double(), dim=0)[:, valid]
    angle = 2 * torch.atan2((a - b).norm(dim=0), (a + b).norm(dim=0))
    return {"sum": torch.rad2deg(angle).sum().cpu().numpy(), "count": valid.sum().cpu().numpy()}


def mean_angle(statistics: Sequence[Statistics], options: Options) -> dict[str, float]:
    """Mean angle over all pixels, degrees."""
    return {"mErr": mean_of(statistics)}


TASK = Task(
    title="Surface normals",
    question="which way its surface faces",
    map=directions.MAP,
    holds="unit vectors that point away from the camera: x right, y down, z forward; a wall "
    "straight ahead is (0, 0, 1)",
    channels=3,
    weight=10.0,
    metric="mErr",
    unit="°",
    higher_is_better=False,
    loss=normals_l1,
    decode=unit_vectors,
    measure=angular_error,
    score=mean_angle,
)
