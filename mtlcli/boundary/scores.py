"""From counts to odsF, oisF and AP, by seism's rules or by those of the BSDS benchmark."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtlcli.boundary.counts import Counts
from mtlcli.boundary.protocols import Protocol
from mtlcli.errors import InputError

Values = NDArray[np.float64]
Ratios = tuple[Values, Values, Values]  # recall, precision, F
EPS = np.finfo(np.float64).eps


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """The scores of a set of images, all in [0, 1]."""

    odsF: float  # F at the one threshold that is best for the whole set
    threshold: float  # that threshold
    recall: float  # there
    precision: float  # there
    oisF: float  # F when every image takes its own best threshold
    AP: float  # area under the precision-recall curve
    curve: Values  # (K, 2) recall and precision per threshold, thresholds ascending


def score(counts: Sequence[Counts], protocol: Protocol) -> Scores:
    """Scores of a set of images; they do not depend on the order of the images.

    seism (protocols seism and mti): F at the thresholds themselves, per-image F rounded to six
    decimals as in its result files, the lowest threshold winning ties. BSDS / Dollar (bsds): F
    also between neighbouring thresholds, 100 points linear in recall and precision.
    In both the set's oisF sums the counts at each image's best threshold, and AP is the precision
    interpolated at recall 0, 0.01 ... 1 (nothing outside the curve), summed and divided by 100.

    Raises:
        InputError: no counts at all.
    """
    if not counts:
        raise InputError("there are no counts to score: the list of images is empty")
    # (N, 4, K): cntR, sumR, cntP, sumP of every image and threshold
    table = np.array([(c.cntR, c.sumR, c.cntP, c.sumP) for c in counts])
    pooled, per_image = table.sum(axis=0), table.transpose(1, 0, 2)
    thresholds = np.array(protocol.thresholds)
    if protocol.interpolate:
        recall, precision, _ = bsds_ratios(*pooled)
        best = best_interpolated(thresholds, recall, precision)
        chosen = bsds_ratios(*per_image)[2].argmax(axis=1)
        oisF = bsds_ratios(*_sum_chosen(table, chosen))[2]
    else:
        recall, precision, f = seism_ratios(*pooled)
        k = int(f.argmax())
        best = (protocol.thresholds[k], float(recall[k]), float(precision[k]), float(f[k]))
        chosen = np.char.mod("%.6f", seism_ratios(*per_image)[2]).astype(float).argmax(axis=1)
        oisF = seism_ratios(*_sum_chosen(table, chosen))[2]
    return Scores(
        threshold=best[0],
        recall=best[1],
        precision=best[2],
        odsF=best[3],
        oisF=float(oisF),
        AP=average_precision(recall, precision),
        curve=np.stack([recall, precision], axis=1),
    )


def _sum_chosen(table: NDArray[np.int64], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """(4,) counts summed over the N images, each at its own threshold; table (N, 4, K)."""
    return table[np.arange(len(table)), :, chosen].sum(axis=0)


def seism_ratios(
    cntR: NDArray[np.int64],
    sumR: NDArray[np.int64],
    cntP: NDArray[np.int64],
    sumP: NDArray[np.int64],
) -> Ratios:
    """Recall, precision and F of counts of any one shape, as seism's `gather_measure` has them.

    Without ground truth recall is 1 and precision 0, without a prediction recall is 0 and
    precision 1 (F = 0 in both); without either, the second.
    """
    recall = np.where(sumR == 0, 1.0, cntR / np.maximum(sumR, 1))
    precision = np.where(sumR == 0, 0.0, cntP / np.maximum(sumP, 1))
    recall, precision = np.where(sumP == 0, 0.0, recall), np.where(sumP == 0, 1.0, precision)
    total = recall + precision
    f = np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1), 0.0)
    return recall, precision, f


def bsds_ratios(
    cntR: NDArray[np.int64],
    sumR: NDArray[np.int64],
    cntP: NDArray[np.int64],
    sumP: NDArray[np.int64],
) -> Ratios:
    """Recall, precision and F of counts of any one shape, as Dollar's `edgesEvalDir` has them."""
    recall, precision = cntR / np.maximum(EPS, sumR), cntP / np.maximum(EPS, sumP)
    return recall, precision, _f_measure(recall, precision)


def _f_measure(recall: Values, precision: Values) -> Values:
    return 2 * precision * recall / np.maximum(EPS, precision + recall)


def best_interpolated(
    thresholds: Values, recall: Values, precision: Values
) -> tuple[float, float, float, float]:
    """Threshold, recall, precision and F at the best F on the curve (BSDS' `maxF`).

    Between neighbouring thresholds 100 points are tried, linear in all three; (K,) each.
    """
    if len(thresholds) > 1:
        part = np.linspace(0, 1, 100)
        thresholds, recall, precision = (
            (v[1:, None] * part + v[:-1, None] * (1 - part)).ravel()
            for v in (thresholds, recall, precision)
        )
    f = _f_measure(recall, precision)
    k = int(f.argmax())
    return float(thresholds[k]), float(recall[k]), float(precision[k]), float(f[k])


def average_precision(recall: Values, precision: Values) -> float:
    """Area under the curve as seism and Dollar take it: 101 points, divided by 100.

    A perfect curve therefore reads 1.01. Of equal recalls the one at the lowest threshold counts.
    """
    unique, first = np.unique(recall, return_index=True)
    if len(unique) < 2:
        return 0.0
    points = np.arange(101) * 0.01
    inside = (points >= unique[0]) & (points <= unique[-1])
    return float(np.interp(points[inside], unique, precision[first]).sum() / 100)
