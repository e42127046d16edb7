"""One image's counts: how many boundary pixels are predicted, true and matched, per threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mtlcli.boundary.pool import interrupt_held
from mtlcli.boundary.protocols import Protocol
from mtlcli.errors import InputError

WHITE = 127  # the brightest code that is rather no boundary
MOST_BOUNDARY = 0.5  # share of the pixels; a map of more is white where it should be black
ROUNDING = 1e-6  # what a mean of several maps may exceed 1 by
GtAs = Literal["boundary", "partition"]
GroundTruth = NDArray[Any] | Sequence[NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Counts of one image, each (K,) int64 for the K thresholds of the protocol, ascending."""

    id: str
    cntR: NDArray[np.int64]  # matched ground-truth pixels, summed over annotators
    sumR: NDArray[np.int64]  # ground-truth pixels, summed over annotators
    cntP: NDArray[np.int64]  # predicted pixels matched to any annotator
    sumP: NDArray[np.int64]  # predicted pixels, after thinning
    is_white: bool = False  # whether most pixels of the prediction are rather boundary than not
    is_faint: bool = False  # whether its strongest code is 1 of 255, as where 0 and 1 were saved


def quantise(probability: NDArray[Any]) -> NDArray[np.uint8]:
    """Probability map of floats in [0, 1] as the 8-bit map the protocols score: trunc(255 p).

    The product is taken in the map's own precision (float32 for half precision), as numpy does
    in the code that published predictions were saved with.

    Raises:
        InputError: NaN, or a value outside [0, 1] by more than rounding.
    """
    if np.isnan(probability).any():
        raise InputError("the map holds NaN; probabilities in [0, 1] are expected")
    low, high = (float(f(probability)) for f in (np.min, np.max)) if probability.size else (0, 0)
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise InputError(
            f"values from {low:.9g} to {high:.9g}; probabilities in [0, 1] are expected"
        )
    wide = probability.astype(np.promote_types(probability.dtype, np.float32), copy=False)
    return (255 * wide).astype(np.uint8)


def image_counts(
    prediction: NDArray[np.uint8],
    truth: GroundTruth,
    protocol: Protocol,
    *,
    gt_as: GtAs = "boundary",
    max_dist: float | None = None,
    id: str = "",
) -> Counts:
    """Count matched boundary pixels of one image at every threshold of the protocol.

    Args:
        prediction: (H, W) uint8, 255 times the probability (`quantise`).
        truth: the (H, W) ground truth, or one per annotator.
        protocol: SEISM, MTI or BSDS; `dataclasses.replace` gives it other thresholds.
        gt_as: "boundary" takes the non-zero pixels of `truth` as they are, "partition" takes
            `truth` as a label map and scores its thinned region boundaries.
        max_dist: matching tolerance as a fraction of the image diagonal; None: the protocol's.
        id: copied into the record.

    Returns:
        Exact counts. One annotator: the maximum-cardinality matching, cntR = cntP. Several: the
        minimum-cost matching with each, because cntP depends on which pixels are matched.

    Raises:
        InputError: the maps are not of one size, or not uint8 and two-dimensional,
            or `gt_as` is unknown.
    """
    truths = [truth] if isinstance(truth, np.ndarray) else list(truth)
    _check(prediction, truths)
    tolerance = protocol.max_dist if max_dist is None else max_dist
    with interrupt_held():
        return _count(prediction, truths, protocol, gt_as, tolerance, id)


def _count(
    prediction: NDArray[np.uint8],
    truths: list[NDArray[Any]],
    protocol: Protocol,
    gt_as: GtAs,
    max_dist: float,
    id: str,
) -> Counts:
    from mtlcli.boundary.thinning import thin_planes

    boundaries = [ground_truth(each, gt_as) for each in truths]
    count = len(protocol.thresholds)
    pixels, planes = thin_planes(ranks(prediction, protocol), count)
    cntR, cntP, sumP = _match(pixels, planes, count, boundaries, max_dist)
    sumR = np.full(count, sum(np.count_nonzero(b) for b in boundaries), np.int64)
    return Counts(
        id=id,
        cntR=cntR,
        sumR=sumR,
        cntP=cntP,
        sumP=sumP,
        is_white=bool((prediction > WHITE).mean() > MOST_BOUNDARY),
        is_faint=bool(prediction.max() == 1),
    )


def _check(prediction: NDArray[np.uint8], truths: list[NDArray[Any]]) -> None:
    if prediction.ndim != 2 or prediction.dtype != np.uint8 or prediction.size == 0:
        raise InputError(
            f"the prediction is {prediction.dtype} of shape {prediction.shape}; "
            "a two-dimensional uint8 map is expected"
        )
    for truth in truths:
        if truth.shape != prediction.shape:
            sizes = ("x".join(map(str, shape)) for shape in (prediction.shape, truth.shape))
            raise InputError(
                "the prediction is {} px (height x width), its ground truth {}; "
                "save predictions at the size of the original image".format(*sizes)
            )


def ranks(prediction: NDArray[np.uint8], protocol: Protocol) -> NDArray[np.uint16]:
    """(H, W) how many of the protocol's thresholds each pixel passes, compared in float64."""
    thresholds = np.array(protocol.thresholds)
    side: Literal["left", "right"] = "right" if protocol.inclusive else "left"
    if not protocol.suppress:
        table = np.searchsorted(thresholds, np.arange(256) / 255, side).astype(np.uint16)
        return table[prediction]
    from mtlcli.boundary.nms import suppress

    values = suppress(prediction).astype(np.float64)
    return np.searchsorted(thresholds, values, side).astype(np.uint16)


def ground_truth(truth: NDArray[Any], gt_as: GtAs) -> NDArray[np.bool_]:
    """(H, W) boundary map of a ground truth, taken as in `image_counts`."""
    if require_kind(gt_as) == "boundary":
        return truth != 0
    from mtlcli.boundary.thinning import thin

    return thin(region_boundaries(truth))


def require_kind(name: str) -> GtAs:
    """`name`, if it says how a ground truth can be taken; InputError if not."""
    for kind in get_args(GtAs):
        if name == kind:
            return kind
    raise InputError(f"boundary ground truth as {name}: unknown, use {', '.join(get_args(GtAs))}")


def region_boundaries(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """(H, W) pixels whose label differs from the one to the right, below, or below right.

    The rule of `seg2bmap` of the BSDS benchmark, which seism applies to label maps; nothing lies
    beyond the last row and column. The line is up to 2 px wide.
    """
    boundary = np.zeros(labels.shape, bool)
    boundary[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    boundary[:-1] |= labels[:-1] != labels[1:]
    boundary[:-1, :-1] |= labels[:-1, :-1] != labels[1:, 1:]
    return boundary


def _match(
    pixels: NDArray[np.int64],
    planes: NDArray[np.uint64],
    count: int,
    boundaries: list[NDArray[np.bool_]],
    max_dist: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """cntR, cntP and sumP, (K,) each, of the thinned maps."""
    from mtlcli.boundary.assignment import cheapest_matchings
    from mtlcli.boundary.matching import matching_sizes
    from mtlcli.boundary.pairs import candidate_pairs
    from mtlcli.boundary.planes import plane_sizes

    shape = boundaries[0].shape
    radius = max_dist * float(np.sqrt(shape[0] ** 2 + shape[1] ** 2))
    partners = (
        candidate_pairs(pixels, np.flatnonzero(boundary), (shape[0], shape[1]), radius)
        for boundary in boundaries
    )
    if len(boundaries) == 1:
        cntR = cntP = matching_sizes(planes, count, *next(partners))
    else:
        cntR, matched = np.zeros(count, np.int64), np.zeros_like(planes)
        for of_pixels, of_truth in partners:
            sizes, pairs = cheapest_matchings(planes, count, of_pixels, of_truth, radius)
            cntR += sizes
            matched |= pairs
        cntP = plane_sizes(matched, count)
    return cntR, cntP, plane_sizes(planes, count)
