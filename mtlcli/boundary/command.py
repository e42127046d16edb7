"""The work of `mtl boundary PRED GT`: a folder of boundary maps scored, and its curve drawn."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mtlcli.boundary.counts import Counts, GtAs, require_kind
from mtlcli.boundary.folder import folder_counts, pair_files
from mtlcli.boundary.protocols import BSDS, Protocol, bsds_thresholds, protocol_named
from mtlcli.boundary.scores import Scores, score
from mtlcli.errors import InputError, RunError
from mtlcli.files import require_ours, save_picture

SIDE, LEFT, TOP, ROOM = 640, 80, 60, 80  # pixels of the unit square, and around it
FINER = 2  # drawn so many times larger, then reduced: lines without steps
INK, GREY, LINE = (26, 26, 26), (190, 190, 190), (0, 96, 168)
DOT = 6  # radius of what marks the best threshold
MOST_THRESHOLDS = 10_000
COLUMNS = ("id", "threshold", "cntR", "sumR", "cntP", "sumP")  # of the .csv, which tell it


def draw_curve(path: Path, title: str, scores: Scores) -> None:
    """Write a .png: the curve, the best threshold marked, and grey lines of equal F.

    Raises:
        OSError: it cannot be written.
    """
    size = FINER * (LEFT + SIDE + ROOM // 2), FINER * (TOP + SIDE + ROOM)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    text = ImageFont.load_default(16 * FINER)

    def place(recall: float, precision: float) -> tuple[float, float]:
        return FINER * (LEFT + SIDE * recall), FINER * (TOP + SIDE * (1 - precision))

    def line(points: Sequence[tuple[float, float]], colour: tuple[int, int, int], w: int) -> None:
        pen.line([place(*point) for point in points], colour, FINER * w, joint="curve")

    for f in np.arange(1, 10) / 10:
        recalls = np.linspace(f / (2 - f), 1, 200)
        line([(r, f * r / (2 * r - f)) for r in recalls], GREY, 1)
        pen.text(place(1, f / (2 - f)), f" F {f:.1f}", GREY, text, anchor="lm")
    line([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)], INK, 1)
    for tick in np.arange(0, 6) / 5:
        pen.text(place(tick, -0.02), f"{tick:.1f}", INK, text, anchor="mt")
        pen.text(place(-0.02, tick), f"{tick:.1f}", INK, text, anchor="rm")
    pen.text(place(0.5, -0.07), "recall", INK, text, anchor="mt")
    pen.text(place(0, 1.02), "precision", INK, text, anchor="rb")
    pen.text(place(0.5, 1.05), title, INK, text, anchor="mb")
    line([(r, p) for r, p in scores.curve.tolist() if np.isfinite(r + p)], LINE, 2)
    if np.isfinite(scores.recall + scores.precision):
        x, y = place(scores.recall, scores.precision)
        pen.ellipse((x - DOT * FINER, y - DOT * FINER, x + DOT * FINER, y + DOT * FINER), LINE)
    save_picture(sheet.reduce(FINER), path)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The scores of a folder and the choices they were made under."""

    protocol: Protocol
    gt_as: GtAs
    max_dist: float  # tolerance as a fraction of the image diagonal
    images: int
    scores: Scores
    white: tuple[str, ...] = ()  # predictions that are mostly boundary
    faint: tuple[str, ...] = ()  # predictions of nothing above 1 of 255
    has_truth: bool = True  # whether any ground truth has a boundary

    def warnings(self) -> list[str]:
        """What is odd about the maps, a line each."""
        found = [
            f"{len(some)} of {self.images} predictions ({some[0]} first) {said}"
            for some, said in (
                (
                    self.white,
                    "mark most of their pixels as boundary: save boundaries as white on black, if "
                    "these are not.",
                ),
                (self.faint, "hold nothing above 1 of 255: save 255 times the probability."),
            )
            if some
        ]
        bare = f"Not one of the {self.images} ground truths has a boundary: nothing can be found."
        return found if self.has_truth else [*found, bare]

    def text(self) -> str:
        """What `mtl boundary` prints: four lines, scores in [0, 1]."""
        s = self.scores
        return (
            f"{self.images} images, protocol {self.protocol.name}, "
            f"ground truth as {self.gt_as}, tolerance {self.max_dist:g}\n"
            f"odsF {s.odsF:.4f}  at threshold {s.threshold:.4g} "
            f"(recall {s.recall:.4f}, precision {s.precision:.4f})\n"
            f"oisF {s.oisF:.4f}\n"
            f"AP   {s.AP:.4f}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for `--json`."""
        names = ("odsF", "threshold", "recall", "precision", "oisF", "AP")
        return {
            "protocol": self.protocol.name,
            "gt_as": self.gt_as,
            "max_dist": self.max_dist,
            "images": self.images,
            **{name: getattr(self.scores, name) for name in names},
        }


def run_boundary(
    pred: Path,
    gt: Path,
    *,
    protocol: str = "seism",
    gt_as: str = "boundary",
    max_dist: float | None = None,
    thresholds: int | None = None,
    ids: Path | None = None,
    workers: int | None = None,
    counts: Path | None = None,
    plot: Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Result:
    """Score the maps in folder `pred` against the ground truths in folder `gt`.

    Args:
        pred: folder of 8-bit greyscale .png, or of .npy probabilities.
        gt: folder of .png boundary or label maps, or of .mat (PASCAL-Context, BSDS).
        protocol: "seism", "mti" or "bsds".
        gt_as: "boundary" or "partition", see `image_counts`.
        max_dist: tolerance, fraction of the image diagonal; None: the protocol's.
        thresholds: number of thresholds, for bsds only; None: 99.
        ids: text file naming the images to score; None: all.
        workers: processes; None: one per available core.
        counts: .csv to write, one row id,threshold,cntR,sumR,cntP,sumP per image and threshold.
        plot: .png to draw the precision-recall curve into.
        force: replace a .csv or plot that mtl did not write.
        quiet: no progress bar.

    Raises:
        InputError: an option or a file cannot be used.
        RunError: a worker process died, or a result cannot be written.
    """
    chosen = _protocol(protocol, thresholds)
    kind = require_kind(gt_as)
    tolerance = chosen.max_dist if max_dist is None else max_dist
    if not 0 < tolerance < 1:
        raise InputError(f"--max-dist {tolerance:g}: a fraction of the diagonal, above 0, below 1")
    if workers is not None and workers < 1:
        raise InputError(f"--workers {workers}: at least 1 is needed")
    _check_output(counts, (".csv",))
    _check_output(plot, (".png",))
    if counts:
        require_ours("--counts", counts, force, mark=",".join(COLUMNS))
    if plot:
        require_ours("--plot", plot, force)

    pairs = pair_files(pred, gt, ids)
    per_image = folder_counts(
        pairs, chosen, gt_as=kind, max_dist=tolerance, workers=workers, quiet=quiet
    )
    result = Result(
        protocol=chosen,
        gt_as=kind,
        max_dist=tolerance,
        images=len(pairs),
        scores=score(per_image, chosen),
        white=tuple(each.id for each in per_image if each.is_white),
        faint=tuple(each.id for each in per_image if each.is_faint),
        has_truth=any(each.sumR.any() for each in per_image),
    )
    try:
        if counts:
            write_counts(counts, per_image, chosen)
        if plot:
            s = result.scores
            title = f"{chosen.name}, {len(pairs)} images: odsF {s.odsF:.4f}, oisF {s.oisF:.4f}, "
            draw_curve(plot, f"{title}AP {s.AP:.4f}", s)
    except OSError as error:
        raise RunError(f"{error.filename or counts or plot}: cannot be written ({error})") from None
    return result


def _protocol(name: str, thresholds: int | None) -> Protocol:
    protocol = protocol_named(name)
    if thresholds is None:
        return protocol
    if protocol is not BSDS:
        raise InputError(f"--thresholds {thresholds}: protocol {name} fixes its own; use bsds")
    if not 1 <= thresholds <= MOST_THRESHOLDS:
        raise InputError(f"--thresholds {thresholds}: 1 to {MOST_THRESHOLDS} are possible")
    return replace(protocol, thresholds=bsds_thresholds(thresholds))


def _check_output(path: Path | None, suffixes: tuple[str, ...]) -> None:
    """Refuse a result file that cannot be written before the long work, not after."""
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{path}: the file name must end in {' or '.join(suffixes)}")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path}: cannot be written, no such folder or a folder itself")


def write_counts(path: Path, counts: Sequence[Counts], protocol: Protocol) -> None:
    """Write `id,threshold,cntR,sumR,cntP,sumP`, images in the order given, thresholds ascending."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for c in counts:
            columns = (c.cntR.tolist(), c.sumR.tolist(), c.cntP.tolist(), c.sumP.tolist())
            for row in zip(protocol.thresholds, *columns):
                writer.writerow([c.id, *row])
