"""Counts of a folder of predictions against a folder of ground truths, on several processes."""

from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path

from tqdm import tqdm

from mtlcli.boundary.counts import Counts, GtAs, image_counts
from mtlcli.boundary.files import PREDICTION_SUFFIXES, TRUTH_SUFFIXES, read_prediction, read_truth
from mtlcli.boundary.pool import worker_pool
from mtlcli.boundary.protocols import Protocol
from mtlcli.errors import InputError, RunError
from mtlcli.files import is_litter, read_lines
from mtlcli.home import available_cores

LISTED = 20  # names written out in an error line


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The files of one image."""

    id: str  # the path below the folder, without its suffix
    prediction: Path
    truth: Path


def pair_files(predictions: Path, truths: Path, ids: Path | None = None) -> list[Pair]:
    """Pair the files of two folders by name, sorted by id.

    Args:
        predictions: folder of .png, .npy, .jpg or .mat maps, looked through with all below it.
        truths: folder of .png or .mat ground truths.
        ids: text file with one id per line; None: both folders must hold the same ids.

    Raises:
        InputError: no such folder, nothing in it, a partner or an id missing (they are listed),
            two files of one name.
    """
    predicted = _files_by_id(predictions, PREDICTION_SUFFIXES)
    true = _files_by_id(truths, TRUTH_SUFFIXES)
    wanted = read_ids(ids) if ids else sorted(predicted.keys() | true.keys())
    remedy = f"as {ids} asks" if ids else "name the ids to score with --ids FILE, or add the files"
    for found, folder, kind in ((predicted, predictions, "prediction"), (true, truths, "truth")):
        missing = [id for id in wanted if id not in found]
        if missing:
            raise InputError(f"{folder}: no {kind} for {_listed(missing)}; {remedy}")
    return [Pair(id=id, prediction=predicted[id], truth=true[id]) for id in wanted]


def read_ids(path: Path) -> list[str]:
    """The ids of a text file, one per line, sorted; raises InputError if unusable or repeated."""
    try:
        ids = sorted(read_lines(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of ids ({error})") from None
    repeated = sorted({a for a, b in pairwise(ids) if a == b})
    if repeated:
        raise InputError(f"{path}: names {_listed(repeated)} more than once")
    if not ids:
        raise InputError(f"{path}: holds no id; one id per line is expected")
    return ids


def _files_by_id(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if path.suffix.lower() in suffixes and not is_litter(place) and path.is_file():
            id = place.with_suffix("").as_posix()
            if id in files:
                raise InputError(f"{path} and {files[id].name}: two files for one image")
            files[id] = path
    if not files:
        raise InputError(f"{folder}: holds no {' or '.join(suffixes)} file")
    return files


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def folder_counts(
    pairs: Sequence[Pair],
    protocol: Protocol,
    *,
    gt_as: GtAs = "boundary",
    max_dist: float | None = None,
    workers: int | None = None,
    quiet: bool = False,
) -> list[Counts]:
    """Counts of every pair, in the order given, whatever the number of workers.

    Args:
        pairs: see `pair_files`.
        protocol, gt_as, max_dist: see `image_counts`.
        workers: processes; None: one per available core, 1: none but this one.
        quiet: no progress bar.

    Raises:
        InputError: a file cannot be used; the line names it.
        RunError: a worker process died.
    """
    count = partial(pair_counts, protocol=protocol, gt_as=gt_as, max_dist=max_dist)
    workers = max(1, min(available_cores() if workers is None else workers, len(pairs)))
    counts = []
    off = True if quiet else None
    bar = tqdm(total=len(pairs), desc="boundary", unit="image", disable=off)
    try:
        with bar, ExitStack() as stack:
            run = map if workers == 1 else stack.enter_context(worker_pool(workers)).map
            first = list(map(count, pairs[:1]))  # here, so that kernels are compiled only once
            for each in chain(first, run(count, pairs[1:])):
                counts.append(each)
                bar.update()
    except BrokenProcessPool:
        raise RunError(
            "a worker process died, perhaps for want of memory; try fewer --workers"
        ) from None
    return counts


def pair_counts(pair: Pair, *, protocol: Protocol, gt_as: GtAs, max_dist: float | None) -> Counts:
    """Read the two files of an image and count; errors name the prediction's file."""
    prediction = read_prediction(pair.prediction)
    truth = read_truth(pair.truth, gt_as)
    try:
        return image_counts(prediction, truth, protocol, gt_as=gt_as, max_dist=max_dist, id=pair.id)
    except InputError as error:
        raise InputError(f"{pair.prediction}: {error}") from None
