"""`mtl data`: what a dataset file holds, and whether it is whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mtlcli import lookup
from mtlcli.data.disk import gigabytes
from mtlcli.data.hdf5 import Info, keys_of, read_info
from mtlcli.data.progress import Bars
from mtlcli.data.reader import Reader
from mtlcli.errors import RunError

BINARY = ("edge", "sal")
IGNORE = 255
LOOKED_AT = 200  # samples of a split whose values are counted, unless all are asked for


@dataclass
class Counts:
    """What was seen of one task in one split."""

    labelled: int = 0  # samples
    total: int = 0
    pixels: int = 0
    valid: int = 0  # pixels with a label
    positive: int = 0  # of these, pixels that are not zero
    low: float = np.inf
    high: float = -np.inf
    histogram: np.ndarray | None = None  # pixels per class


def describe(path: Path, *, everything: bool = False, quiet: bool = False) -> str:
    """The report of a dataset file: origin, counts, coverage, ranges and class histogram.

    Args:
        everything: read all samples for ranges and histograms, not only some of each split.

    Raises:
        InputError: no such file, or not a complete dataset.
    """
    info = read_info(path)
    lines = [*_origin(path, info), ""]
    for split in splits_of(path, info):
        reader = Reader(path, split)
        lines += _split(reader, everything, Bars(quiet))
    return "\n".join(lines)


def splits_of(path: Path, info: Info) -> tuple[str, ...]:
    """The splits that the file has."""
    with h5py.File(path, "r") as file:
        return tuple(s for s in info.expected if s in file)


def _origin(path: Path, info: Info) -> list[str]:
    where = "; ".join(map(_archive, info.archives)) or info.layout
    source = info.source if where == info.source else f"{info.source}: {where}"
    lines = [
        f"{info.title} ({path}, {gigabytes(path.stat().st_size)}, {info.tool}, complete)",
        f"  source    {source}",
        f"  geometry  {info.geometry}; trained on {info.size[0]}x{info.size[1]}",
    ]
    for task in info.tasks:
        mark = " [derived here]" if task in info.derived else ""
        lines.append(f"  {task:<11} {info.provenance.get(task, '')}{mark}")
    absent = _absent(info)
    if absent:
        lines.append(f"  absent    {', '.join(absent)}: this source has no such labels")
    if info.terms:
        lines.append(f"  terms     {info.terms}")
    return lines


def _absent(info: Info) -> list[str]:
    if info.name not in lookup.names("datasets"):
        return []
    tasks = lookup.load("datasets", info.name).DATASET.tasks
    return [t for t in tasks if t not in info.tasks]


def _archive(record: Mapping[str, Any]) -> str:
    kind = "sha256" if "sha256" in record else "listing_sha256"
    trust = record.get("checksum", "")
    known = {"published": ", as published", "first use": ", first use"}.get(trust, "")
    return f"{record['name']} ({gigabytes(record['bytes'])}, {kind} {record[kind][:16]}...{known})"


def _split(reader: Reader, everything: bool, bars: Bars) -> list[str]:
    info, expected = reader.info, reader.info.expected[reader.split]
    found = len(reader)
    verdict = "all" if found == expected else f"{found} of {expected}: INCOMPLETE SET"
    if found != expected and "limit" in info.request:
        verdict = f"{found} of {expected}, as --limit asked"
    step = 1 if everything else max(1, found // LOOKED_AT)
    rows = range(0, found, step)
    counts = {key: Counts() for key in keys_of(info)}
    with bars.samples(f"Reading {reader.split}", len(rows)) as bar:
        for index in rows:
            for key, array in reader[index].items():
                _count(counts[key], key, array, info)
            bar(1)
    seen = "" if step == 1 else f", values of 1 in {step}"
    lines = [f"{reader.split}: {found} samples ({verdict}){seen}"]
    for key in keys_of(info):
        lines.append(_line(reader, key, counts[key]))
        lines += _histogram(info.classes.get(key, ()), counts[key].histogram)
    return [*lines, ""]


def _count(counts: Counts, key: str, array: np.ndarray, info: Info) -> None:
    counts.labelled += 1
    valid = _valid(key, array)
    counts.pixels += valid.size
    counts.valid += int(valid.sum())
    if valid.any():
        values = array[valid]
        counts.low = min(counts.low, float(values.min()))
        counts.high = max(counts.high, float(values.max()))
        counts.positive += np.count_nonzero(values) if key in BINARY else 0
    if key in info.classes:
        some = np.bincount(array.ravel(), minlength=256)[:IGNORE]
        counts.histogram = some if counts.histogram is None else counts.histogram + some


def _valid(key: str, array: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels that carry a label."""
    if key == "normals":
        return np.asarray(array.any(axis=-1))
    if key == "depth":
        return array > 0
    if key in ("image", "edge"):
        return np.ones(array.shape[:2], bool)
    return np.asarray(array != IGNORE)


def _line(reader: Reader, key: str, counts: Counts) -> str:
    have, everybody = int(reader.has(key).sum()), len(reader)
    coverage = counts.valid / counts.pixels if counts.pixels else 0.0
    unit = " m" if key == "depth" else ""
    values = f"{counts.low:g} .. {counts.high:g}{unit}" if counts.valid else "no values"
    if key in BINARY and counts.valid:
        values += f", {counts.positive / counts.valid:.1%} not 0"
    return f"  {key:<11} {have}/{everybody} samples, {coverage:6.1%} of pixels labelled, {values}"


def _histogram(names: Sequence[str], histogram: np.ndarray | None) -> list[str]:
    if histogram is None or not histogram.sum():
        return []
    share = histogram[: len(names)] / histogram.sum()
    cells = [f"{n} {s:.1%}" for n, s in sorted(zip(names, share), key=lambda c: -c[1]) if s > 0]
    absent = [n for n, s in zip(names, share) if s == 0]
    lines = ["    " + ", ".join(cells[i : i + 8]) for i in range(0, len(cells), 8)]
    return [*lines, f"    never: {', '.join(absent)}"] if absent else lines


def check(path: Path, *, quiet: bool = False) -> str:
    """Read every sample and compare its bytes with the checksums; one line of good news.

    Raises:
        InputError: no such file, or not a complete dataset.
        RunError: a sample is damaged; the message names the first and how many there are.
    """
    info = read_info(path)
    damaged, total = [], 0
    for split in splits_of(path, info):
        reader = Reader(path, split)
        with Bars(quiet).samples(f"Checking {split}", len(reader)) as bar:
            for index in range(len(reader)):
                damaged += [
                    f"{split} sample '{reader.ids[index]}' ({key})"
                    for key in keys_of(info)
                    if reader.has(key)[index] and not reader.is_sound(key, index)
                ]
                bar(1)
        total += len(reader)
    if damaged:
        raise RunError(
            f"{path} is damaged: {damaged[0]} and {len(damaged) - 1} more; run "
            f"`mtl prepare {info.name} --force`."
        )
    return f"{path}: {total} samples, every checksum holds."
