"""What a split of a dataset file holds, counted over its samples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtlcli.data.hdf5 import IMAGE, Info, keys_of
from mtlcli.data.progress import Bars
from mtlcli.data.reader import Reader
from mtlcli.maps._map import IGNORE

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
            for key, array in reader[index].items():
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
