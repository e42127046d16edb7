"""`mtl data`: what a dataset file holds, and whether it is whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtlcli import datasets, lookup
from mtlcli.data.hdf5 import IMAGE, Info, advise_remaking, keys_of, open_dataset, read_info
from mtlcli.data.progress import Bars
from mtlcli.data.reader import Reader
from mtlcli.errors import RunError
from mtlcli.files import gigabytes
from mtlcli.home import datasets_dir
from mtlcli.maps._map import IGNORE, NO_OPTIONS

LOOKED_AT = 200  # samples of a split whose values are counted, unless all are asked for


@dataclass
class Counts:
    """What was seen of one task, or of the images, in one split."""

    samples: int  # that have it
    pixels: int = 0
    valid: int = 0  # pixels with a label
    positive: int = 0  # of these, pixels that are not zero; of binary labels only
    low: float = np.inf
    high: float = -np.inf
    histogram: np.ndarray | None = None  # pixels per class

    @property
    def coverage(self) -> float:
        """Share of the pixels that carry a label."""
        return self.valid / self.pixels if self.pixels else 0.0


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Everything about one split."""

    split: str
    samples: int
    expected: int  # in the complete dataset
    step: int  # values were counted in one of so many samples
    counts: Mapping[str, Counts]  # by task, and "image"

    def to_json(self, info: Info) -> dict[str, Any]:
        """Plain types only."""
        return {
            "samples": self.samples,
            "expected": self.expected,
            "values_of_one_in": self.step,
            "holds": {
                key: as_json(counts, is_binary(key, info), info.classes.get(key, ()))
                for key, counts in self.counts.items()
            },
        }


def contents(reader: Reader, everything: bool, bars: Bars) -> Contents:
    """Count a split's samples, coverage, ranges and classes; all samples, or some of many."""
    info, total = reader.info, len(reader)
    step = 1 if everything else max(1, total // LOOKED_AT)
    rows = range(0, total, step)
    counts = {key: Counts(samples=int(reader.has(key).sum())) for key in keys_of(info)}
    with bars.samples(f"Reading {reader.split}", len(rows)) as bar:
        for index in rows:
            for key, array in (reader[index] | reader.truths(index)).items():
                add(counts[key], key, array, info)
            bar(1)
    expected = info.expected[reader.split]
    return Contents(split=reader.split, samples=total, expected=expected, step=step, counts=counts)


def add(counts: Counts, key: str, array: np.ndarray, info: Info) -> None:
    """Count one stored array."""
    valid = np.ones(array.shape[:2], bool) if key == IMAGE else info.map(key).labelled(array)
    counts.pixels += valid.size
    counts.valid += int(valid.sum())
    if valid.any():
        values = array[valid]
        counts.low = min(counts.low, float(values.min()))
        counts.high = max(counts.high, float(values.max()))
        counts.positive += np.count_nonzero(values) if is_binary(key, info) else 0
    if key in info.classes:
        some = np.bincount(array.ravel(), minlength=256)[:IGNORE]
        counts.histogram = some if counts.histogram is None else counts.histogram + some


def is_binary(key: str, info: Info) -> bool:
    """Whether the share of pixels that are set is worth telling."""
    return key != IMAGE and info.map(key).is_binary


def as_json(counts: Counts, binary: bool, classes: tuple[str, ...]) -> dict[str, Any]:
    """One task's counts as plain types; no range where no pixel is labelled."""
    record: dict[str, Any] = {"samples": counts.samples, "labelled": counts.coverage}
    if counts.valid:
        record |= {"low": counts.low, "high": counts.high}
        if binary:
            record["not_zero"] = counts.positive / counts.valid
    return record | ({"classes": shares(classes, counts.histogram)} if classes else {})


def shares(classes: tuple[str, ...], histogram: np.ndarray | None) -> dict[str, float]:
    """Name of the class -> share of the labelled pixels; empty where none is labelled."""
    if histogram is None or not histogram.sum():
        return {}
    return dict(zip(classes, (histogram[: len(classes)] / histogram.sum()).tolist()))


@dataclass(frozen=True, kw_only=True)
class Description:
    """A dataset file: where it comes from, and what its splits hold."""

    path: Path
    bytes: int
    info: Info
    absent: tuple[str, ...]  # tasks of the dataset that this source has no labels for
    splits: tuple[Contents, ...]

    def text(self) -> str:
        """Origin, counts, coverage, ranges and class histogram, to be read."""
        lines = [*origin(self), ""]
        for split in self.splits:
            lines += [*split_text(split, self.info), ""]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The same as plain types."""
        info = self.info
        return {
            "file": str(self.path),
            "bytes": self.bytes,
            "name": info.name,
            "title": info.title,
            "tool": info.tool,
            "source": info.source,
            "layout": info.layout,
            "archives": [dict(record) for record in info.archives],
            "geometry": info.geometry,
            "size": list(info.size),
            "request": dict(info.request or {}),
            "tasks": {
                task: {"from": info.provenance.get(task, ""), "derived": task in info.derived}
                for task in info.tasks
            },
            "absent": list(self.absent),
            "terms": info.terms,
            "splits": {split.split: split.to_json(info) for split in self.splits},
        }


def place_of(name: Path) -> Path:
    """The file that is meant: a path, or the name of a prepared dataset."""
    prepared = datasets_dir() / f"{name}.h5"
    return prepared if prepared.is_file() and not name.is_file() else name


def describe(path: Path, *, everything: bool = False, quiet: bool = False) -> Description:
    """Read a dataset file's record and count what its samples hold.

    Args:
        everything: read all samples for ranges and histograms, not only some of each split.

    Raises:
        InputError: no such file, or not a complete dataset.
    """
    info = read_info(path)
    return Description(
        path=path,
        bytes=path.stat().st_size,
        info=info,
        absent=absent(info),
        splits=tuple(
            contents(Reader(path, split), everything, Bars(quiet))
            for split in splits_of(path, info)
        ),
    )


def splits_of(path: Path, info: Info) -> tuple[str, ...]:
    """The splits that the file has."""
    with open_dataset(path) as file:
        there = tuple(file)
    return tuple(s for s in info.expected if s in there)


def absent(info: Info) -> tuple[str, ...]:
    """Tasks of the dataset that the file's source has no labels for."""
    if info.name not in lookup.names("datasets"):
        return ()
    tasks = datasets.find(info.name).tasks
    return tuple(t for t in tasks if t not in info.tasks)


def origin(description: Description) -> list[str]:
    """Where the file and its labels come from, as lines."""
    info, size = description.info, gigabytes(description.bytes)
    where = "; ".join(map(archive_text, info.archives)) or info.layout
    source = info.source if where == info.source else f"{info.source}: {where}"
    lines = [
        f"{info.title} ({description.path}, {size}, {info.tool}, complete)",
        f"  source    {source}",
        f"  geometry  {info.geometry}; trained on {info.size[0]}x{info.size[1]}",
    ]
    for task in info.tasks:
        mark = " [derived here]" if task in info.derived else ""
        lines.append(f"  {task:<11} {info.provenance.get(task, '')}{mark}")
    if description.absent:
        lines.append(f"  absent    {', '.join(description.absent)}: this source has no such labels")
    if info.terms:
        lines.append(f"  terms     {info.terms}")
    return lines


def archive_text(record: Mapping[str, Any]) -> str:
    """Name, size and checksum of what was converted."""
    kind = "sha256" if "sha256" in record else "listing_sha256"
    trust = record.get("checksum", "")
    known = {"published": ", as published", "first use": ", first use"}.get(trust, "")
    return f"{record['name']} ({gigabytes(record['bytes'])}, {kind} {record[kind][:16]}...{known})"


def split_text(split: Contents, info: Info) -> list[str]:
    """A split's counts as lines."""
    found, expected = split.samples, split.expected
    verdict = "all" if found == expected else f"{found} of {expected}: INCOMPLETE SET"
    if found != expected and "limit" in (info.request or {}):
        verdict = f"{found} of {expected}, as --limit asked"
    seen = "" if split.step == 1 else f", values of 1 in {split.step}"
    lines = [f"{split.split}: {found} samples ({verdict}){seen}"]
    for key, counts in split.counts.items():
        lines.append(counts_text(key, counts, found, info))
        lines += histogram_text(shares(info.classes.get(key, ()), counts.histogram))
    return lines


def counts_text(key: str, counts: Counts, everybody: int, info: Info) -> str:
    """One task's counts as a line."""
    unit = unit_of(key, info)
    values = f"{counts.low:g} .. {counts.high:g}{unit}" if counts.valid else "no values"
    if is_binary(key, info) and counts.valid:
        values += f", {counts.positive / counts.valid:.1%} not 0"
    have, coverage = counts.samples, counts.coverage
    return f"  {key:<11} {have}/{everybody} samples, {coverage:6.1%} of pixels labelled, {values}"


def unit_of(key: str, info: Info) -> str:
    """The unit of a task's values to end a line with, "" if they have none."""
    unit = "" if key == IMAGE else info.map(key).unit
    return f" {info.options.get(key, NO_OPTIONS).get('unit', unit)}" if unit else ""


def histogram_text(known: Mapping[str, float]) -> list[str]:
    """The classes and their shares, the most frequent first, as lines."""
    there = sorted(((n, s) for n, s in known.items() if s > 0), key=lambda c: -c[1])
    cells = [f"{name} {share:.1%}" for name, share in there]
    never = [name for name, share in known.items() if share == 0]
    lines = ["    " + ", ".join(cells[i : i + 8]) for i in range(0, len(cells), 8)]
    return [*lines, f"    never: {', '.join(never)}"] if never else lines


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
            f"{path} is damaged: {damaged[0]} and {len(damaged) - 1} more{advise_remaking(path)}."
        )
    return f"{path}: {total} samples, every checksum holds."
