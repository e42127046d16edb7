"""`mtl data`: what a dataset file holds, whether it is whole, and what it looks like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mtlcli import lookup
from mtlcli.colors import draw_boundaries, draw_classes, draw_depth, draw_normals, draw_probability
from mtlcli.data.disk import gigabytes
from mtlcli.data.hdf5 import Info, keys_of, read_info
from mtlcli.data.progress import Bars
from mtlcli.data.reader import Reader
from mtlcli.errors import InputError, RunError

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
    for split in _splits(path, info):
        reader = Reader(path, split)
        lines += _split(reader, everything, Bars(quiet))
    return "\n".join(lines)


def _splits(path: Path, info: Info) -> tuple[str, ...]:
    with h5py.File(path, "r") as file:
        return tuple(s for s in info.expected if s in file)


def _origin(path: Path, info: Info) -> list[str]:
    where = "; ".join(map(_archive, info.archives)) or info.layout
    lines = [
        f"{info.title} ({path}, {gigabytes(path.stat().st_size)}, {info.tool}, complete)",
        f"  source    {info.source}: {where}",
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
    return f"  {key:<11} {have}/{everybody} samples, {coverage:6.1%} of pixels, {values}"


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
    for split in _splits(path, info):
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


def browse(path: Path, picture: Path, *, rows: int = 6, width: int = 240) -> Path:
    """Draw a contact sheet: one row per sample, image and all labels side by side.

    Samples are spread evenly over the splits; `width` is that of one cell in pixels.

    Raises:
        InputError: no such file, not a complete dataset, or `picture` is no picture's name.
    """
    info = read_info(path)
    if picture.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"--browse {picture}: give the name of a .png or .jpg file.")
    strips = []
    for split in (splits := _splits(path, info)):
        reader = Reader(path, split)
        count = min(len(reader), max(1, rows // len(splits)))
        for index in np.linspace(0, len(reader) - 1, count).astype(int):
            strips.append(_strip(reader, int(index), width))
    sheet = np.concatenate([_header(keys_of(info), width), *strips])
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(picture)
    return picture


def _strip(reader: Reader, index: int, width: int) -> np.ndarray:
    sample = reader[index]
    height = max(1, round(width * sample["image"].shape[0] / sample["image"].shape[1]))
    cells = []
    for key in keys_of(reader.info):
        cell = np.full((height, width, 3), 64, np.uint8)  # grey: no label
        if key in sample:
            drawn = _draw(key, sample[key], reader.info)
            cell = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA)
        cells.append(cell)
    strip = np.concatenate(cells, axis=1)
    _write(strip, f"{reader.split} {reader.ids[index]}", (5, height - 20))
    return strip


def _draw(key: str, array: np.ndarray, info: Info) -> np.ndarray:
    """A stored array as RGB in the field's colours."""
    if key == "image":
        return array
    if key == "depth":
        return draw_depth(array[None], {})
    if key == "normals":
        return draw_normals(unit_vectors(array).transpose(2, 0, 1), {})
    if key == "edge":
        return draw_boundaries(array[None] / np.float32(255), {})
    if key in info.classes:
        return draw_classes(array, {"palette": info.palettes.get(key)})
    return draw_probability(array, {})


def unit_vectors(normals: np.ndarray) -> np.ndarray:
    """Stored normals as float32 vectors (H, W, 3), zero where there is no label."""
    if normals.dtype != np.uint8:
        return normals
    vectors = normals.astype(np.float32) * np.float32(2 / 255) - np.float32(1)
    vectors[~normals.any(axis=-1)] = 0
    return vectors


def _header(keys: Sequence[str], width: int) -> np.ndarray:
    header = np.zeros((24, width * len(keys), 3), np.uint8)
    for column, key in enumerate(keys):
        _write(header, key, (column * width + 6, 4))
    return header


def _write(picture: np.ndarray, text: str, place: tuple[int, int]) -> None:
    """White letters with a black rim, their upper left corner at `place` (x, y)."""
    canvas = Image.fromarray(picture)
    font = ImageFont.load_default(13)
    ink = {"fill": "white", "stroke_width": 2, "stroke_fill": "black"}
    ImageDraw.Draw(canvas).text(place, text, font=font, **ink)  # type: ignore[arg-type]
    picture[:] = np.asarray(canvas)
