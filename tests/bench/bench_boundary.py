"""Time of the boundary counts per image, against scipy's and skimage's way, within one run.

    python tests/bench/bench_boundary.py [CASE.npz] [--every 10]

Counts one 425 x 560 image at all thresholds, with suppression (seism, 101) and without (mti, 99),
on one core. The baseline thins every threshold's map by `skimage.morphology.thin` and matches it
by `scipy.sparse.csgraph.min_weight_full_bipartite_matching`, each prediction pixel with a private
dummy column: once by distance, as the original does, and once with equal weights, which is
quicker. Only every n-th threshold is measured, and the time scaled; its counts must equal ours.

CASE.npz may bring `pred`, and `gt` as packed bits; otherwise the image is made up. `--suite N`
also times N images in folders with 1 and 2 worker processes.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array, hstack
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree
from skimage.morphology import thin as skimage_thin

from mtlcli.boundary import MTI, SEISM, image_counts, run_boundary
from mtlcli.boundary.nms import suppress

SHAPE = (425, 560)
MAX_DIST = 0.011


def made_up(seed=0, regions=40):
    """A prediction like a trained network's, and the thinned region boundaries it is about."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.random((regions, *SHAPE)), (0, 40, 40))
    labels = noise.argmax(axis=0)
    truth = np.zeros(SHAPE, bool)
    truth[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    truth[1:] |= labels[1:] != labels[:-1]
    truth = skimage_thin(truth)
    soft = gaussian_filter(np.roll(truth, (1, 2), (0, 1)).astype(float), 2)
    clutter = gaussian_filter(rng.random(SHAPE), 2.0)
    clutter = np.clip((clutter - np.quantile(clutter, 0.3)) / np.ptp(clutter), 0, 1)
    return np.uint8(255 * np.clip(0.75 * soft / soft.max() + 0.6 * clutter, 0, 1)), truth


def from_case(path):
    case = np.load(path)
    return case["pred"], np.unpackbits(case["gt"][0], axis=-1)[:, : case["pred"].shape[1]] > 0


def seconds(work):
    """CPU seconds of a call, and what it returns."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def plain_match(mask, truth, radius, by_distance):
    """Number of pairs in the best matching of two (H, W) masks, by scipy."""
    rows, columns = np.argwhere(mask), np.argwhere(truth)
    near = cKDTree(rows).sparse_distance_matrix(cKDTree(columns), radius, output_type="coo_matrix")
    cost = 1 + (np.rint(100 * near.data) if by_distance else np.ones(near.nnz))
    lone = 1 + (np.ceil(100 * 100 * radius) if by_distance else 2)
    own = coo_array((np.full(len(rows), lone), (np.arange(len(rows)),) * 2))
    graph = hstack([coo_array((cost, (near.row, near.col)), near.shape), own]).tocsr()
    _, partner = min_weight_full_bipartite_matching(graph)
    return np.count_nonzero(partner < len(columns))


def baseline(prediction, truth, protocol, every, by_distance):
    """Scaled CPU seconds of the plain way, and {threshold number: matched} of those measured."""
    values = suppress(prediction).astype(float) if protocol.suppress else prediction / 255
    radius = MAX_DIST * np.hypot(*SHAPE)
    matched = {}
    start = time.process_time()
    for k in range(0, len(protocol.thresholds), every):
        t = protocol.thresholds[k]
        mask = skimage_thin(values >= t if protocol.inclusive else values > t)
        matched[k] = plain_match(mask, truth, radius, by_distance) if mask.any() else 0
    spent = time.process_time() - start
    return spent * len(protocol.thresholds) / len(matched), matched


def compare(prediction, truth, protocol, every):
    def count():
        return image_counts(prediction, truth, protocol, max_dist=MAX_DIST)

    count()  # compile
    ours, counts = min((seconds(count) for _ in range(5)), key=lambda timed: timed[0])
    measured = {"thresholds": len(protocol.thresholds), "seconds": ours}
    for by_distance in (True, False):
        theirs, matched = baseline(prediction, truth, protocol, every, by_distance)
        assert all(counts.cntR[k] == size for k, size in matched.items()), "the counts differ"
        kind = "by distance" if by_distance else "equal weights"
        measured[f"scipy, {kind}"] = {"seconds": theirs, "ratio": theirs / ours}
    return measured


def told(name, measured):
    """The same as text."""
    yield f"{name}, {measured['thresholds']} thresholds: {measured['seconds']:.3f} s"
    for kind, baseline in measured.items():
        if isinstance(baseline, dict):
            yield f"  {kind}: {baseline['seconds']:.1f} s = {baseline['ratio']:.0f}x"


def suite(images):
    """Wall time of `images` made-up images in folders by 1 and 2 workers."""
    with tempfile.TemporaryDirectory() as folder:
        pred, gt = Path(folder, "pred"), Path(folder, "gt")
        pred.mkdir()
        gt.mkdir()
        for i in range(images):
            prediction, truth = made_up(seed=i % 8)
            Image.fromarray(prediction).save(pred / f"{i:04}.png")
            Image.fromarray(truth).save(gt / f"{i:04}.png")
        for workers in (1, 2):
            start = time.perf_counter()
            run_boundary(pred, gt, workers=workers)
            print(f"{images} images, {workers} workers: {time.perf_counter() - start:.1f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="?", type=Path)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--suite", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    image = from_case(options.case) if options.case else made_up()
    measured = {p.name: compare(*image, p, options.every) for p in (SEISM, MTI)}
    if options.json:
        print(json.dumps(measured, indent=1))
    else:
        print("\n".join(line for name, m in measured.items() for line in told(name, m)))
    if options.suite:
        suite(options.suite)


if __name__ == "__main__":
    main()
