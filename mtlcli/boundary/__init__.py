"""Boundary evaluation by matching, exact and without MATLAB: odsF, oisF and AP.

A prediction is an (H, W) uint8 map, 255 times the probability; a ground truth an (H, W) map of
boundaries or of labels. One image's counts, and the scores of many:

    from mtlcli.boundary import SEISM, image_counts, quantise, score

    counts = [
        image_counts(quantise(probability), labels, SEISM, gt_as="partition", max_dist=0.0075)
        for probability, labels in images
    ]
    print(score(counts, SEISM).odsF)

Folders of files: `pair_files` and `folder_counts`, or all at once `run_boundary`, which is what
`mtl boundary` runs. The steps on their own: `nms.suppress`, `thinning.thin`,
`counts.region_boundaries`, `pairs.candidate_pairs`, `matching.matching_sizes`,
`assignment.cheapest_matchings`.

The protocols (protocols.py):

- SEISM: non-maximum suppression, value > threshold, 101 thresholds. The tool of InvPT and of most
  papers since on NYUD (tolerance 0.011) and PASCAL-Context (0.0075).
- MTI: no suppression, value >= threshold, 99 thresholds. MTI-Net's own reader; about one point
  of F away from SEISM.
- BSDS: as MTI for maps suppressed before they were saved; several annotators, F interpolated.

The original matcher drops a few matches at random; an exact one reads 0.03 to 0.06 points (of
100) above it. Nothing here imports torch, and numba is imported by the first count.
"""

from mtlcli.boundary.command import Result, run_boundary
from mtlcli.boundary.counts import Counts, ground_truth, image_counts, quantise, region_boundaries
from mtlcli.boundary.folder import Pair, folder_counts, pair_files, read_ids
from mtlcli.boundary.pool import worker_pool
from mtlcli.boundary.protocols import (
    BSDS,
    MTI,
    PROTOCOLS,
    SEISM,
    Protocol,
    bsds_thresholds,
    protocol_named,
)
from mtlcli.boundary.scores import Scores, score

__all__ = [
    "BSDS",
    "MTI",
    "PROTOCOLS",
    "SEISM",
    "Counts",
    "Pair",
    "Protocol",
    "Result",
    "Scores",
    "bsds_thresholds",
    "folder_counts",
    "ground_truth",
    "image_counts",
    "pair_files",
    "protocol_named",
    "quantise",
    "read_ids",
    "region_boundaries",
    "run_boundary",
    "score",
    "worker_pool",
]
