"""The time of one augmented sample, ours and step by step, in turns on one core.

    python tests/bench/bench_augmentation.py [--rounds 64] [--json]

Step by step is as the field's code does it (ATRC's recipe, which DeMT uses): one step after the
other, each on every array, colours in float32. Samples are those of nyud.h5, or rooms rendered at
its size.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import mean
from typing import Any

import cv2
import numpy as np

from mtlcli import lookup
from mtlcli.data.augment import (
    CROP_ATTEMPTS,
    LARGEST_CLASS,
    SCALES,
    Sample,
    augment,
)
from mtlcli.data.moments import IMAGENET, Moments
from mtlcli.data.reader import Reader
from mtlcli.home import datasets_dir
from mtlcli.maps import map_of
from mtlcli.maps._map import IGNORE, Map

NYUD = (425, 560)  # of its pictures and crops
TASKS = ("semseg", "depth", "normals", "edge")  # its labels
BALANCED = ("semseg",)  # crops show several of its classes
SAMPLES = 8
Arrays = dict[str, np.ndarray]  # image and targets, channels last


def measure(rounds: int) -> dict[str, Any]:
    """Processor time of one sample with its labels: the mean over random crops, the same for both
    ways.
    """
    samples, source = nyud_samples()
    maps = {name: map_of(name) for name in TASKS}
    spent: dict[Callable[..., Sample], list[float]] = {augment: [], stepwise: []}
    with one_core():
        for turn in range(rounds + 1):
            for way, times in spent.items():
                times.append(seconds(way, samples[turn % len(samples)], maps, turn))
    ours, theirs = (1e3 * mean(times[1:]) for times in spent.values())  # the first warms up
    return {"ours_ms": ours, "stepwise_ms": theirs, "ratio": theirs / ours, "samples": source}


def seconds(
    way: Callable[..., Sample], sample: Sample, maps: Mapping[str, Map], seed: int
) -> float:
    """Processor time of one augmentation; unlike a clock's it does not count other programs."""
    rng = np.random.default_rng(seed)
    began = time.process_time()
    way(sample, maps, NYUD, (1.0, 1.0), rng, IMAGENET, BALANCED)
    return time.process_time() - began


def nyud_samples() -> tuple[list[Sample], str]:
    """A few samples in stored form, and where they are from."""
    path = datasets_dir() / "nyud.h5"
    if path.exists():
        reader = Reader(path, "train", TASKS)
        if reader.info.size == NYUD:
            return [reader[i] for i in range(min(SAMPLES, len(reader)))], path.name
    rooms = lookup.load("datasets", "rooms")
    return [rooms.render(i, "train", NYUD) for i in range(SAMPLES)], "rooms rendered at 425x560"


@contextmanager
def one_core() -> Iterator[None]:
    """Within it OpenCV starts no threads, as in a loader process."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def stepwise(
    sample: Sample,
    maps: Mapping[str, Map],
    size: tuple[int, int],
    resolution: tuple[float, float],
    rng: np.random.Generator,
    moments: Moments,
    balanced: Sequence[str] = (),
) -> Sample:
    """The same distribution of crops as `mtlcli.data.augment.augment`, with the same arguments."""
    arrays = {"image": sample["image"]}
    arrays |= {n: channels_last(t.target(sample[n])) for n, t in maps.items() if n in sample}
    arrays = scale(arrays, maps, resolution, rng)
    arrays = crop(arrays, balanced, size, rng)
    if rng.random() < 0.5:
        arrays = mirror(arrays, maps)
    arrays["image"] = distort(arrays["image"], rng)
    mean, deviation = np.float32(moments)
    arrays["image"] = (arrays["image"].astype(np.float32) / 255 - mean) / deviation
    padded = pad(arrays, maps, size)
    targets = {name: channels_first(array) for name, array in padded.items()}
    return {n: maps[n].crop(t) if n in maps and maps[n].crop else t for n, t in targets.items()}


def channels_last(target: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (H, W, C); class maps stay."""
    return target if target.ndim == 2 else np.ascontiguousarray(target.transpose(1, 2, 0))


def channels_first(array: np.ndarray) -> np.ndarray:
    """(H, W, C) -> (C, H, W); class maps stay."""
    return array if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def each(arrays: Arrays, change: Callable[[np.ndarray, str], np.ndarray]) -> Arrays:
    """All arrays changed; those of one channel keep it, which OpenCV drops."""
    changed = {name: change(array, name) for name, array in arrays.items()}
    return {n: a if a.ndim == arrays[n].ndim else a[..., None] for n, a in changed.items()}


def scale(
    arrays: Arrays,
    maps: Mapping[str, Map],
    resolution: tuple[float, float],
    rng: np.random.Generator,
) -> Arrays:
    """All arrays resized by a random factor, labels by the nearest pixel."""
    factor = rng.uniform(*SCALES)
    height, width = (round(n * r * factor) for n, r in zip(arrays["image"].shape, resolution))

    def resize(array: np.ndarray, name: str) -> np.ndarray:
        method = cv2.INTER_LINEAR if name == "image" else cv2.INTER_NEAREST
        return cv2.resize(array, (width, height), interpolation=method)

    resized = each(arrays, resize)
    for name, task in maps.items():
        if task.zoom and name in resized:
            resized[name] = task.zoom(resized[name], factor)
    return resized


def crop(
    arrays: Arrays, balanced: Sequence[str], size: tuple[int, int], rng: np.random.Generator
) -> Arrays:
    """All arrays cropped alike, the box drawn again while one class fills most of it."""
    height, width = arrays["image"].shape[:2]
    balances = [name for name in balanced if name in arrays]
    for _ in range(CROP_ATTEMPTS):
        top = int(rng.integers(0, max(height - size[0], 0) + 1))
        left = int(rng.integers(0, max(width - size[1], 0) + 1))
        box = slice(top, top + size[0]), slice(left, left + size[1])
        if all(is_mixed(arrays[name][box]) for name in balances):
            break
    return {name: array[box] for name, array in arrays.items()}


def is_mixed(classes: np.ndarray) -> bool:
    """Whether no class fills most of a map."""
    labels, counts = np.unique(classes, return_counts=True)
    counts = counts[labels != IGNORE]
    return bool(len(counts) > 1 and counts.max() < LARGEST_CLASS * counts.sum())


def mirror(arrays: Arrays, maps: Mapping[str, Map]) -> Arrays:
    """All arrays mirrored left to right, and the values that turn with them."""
    flipped = each(arrays, lambda array, name: cv2.flip(array, 1))
    for name, task in maps.items():
        if task.mirror and name in flipped:
            flipped[name] = task.mirror(flipped[name].transpose(2, 0, 1)).transpose(1, 2, 0)
    return flipped


def distort(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, saturation and hue, each step from float32 back to bytes."""
    if rng.random() < 0.5:
        image = linear(image, 1.0, rng.uniform(-32, 32))
    contrast_first = rng.random() < 0.5
    contrast = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    if contrast_first and contrast != 1:
        image = linear(image, contrast, 0.0)
    if rng.random() < 0.5:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 1] = linear(hsv[..., 1], rng.uniform(0.5, 1.5), 0.0)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if rng.random() < 0.5:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + int(rng.integers(-18, 18))) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if not contrast_first and contrast != 1:
        image = linear(image, contrast, 0.0)
    return image


def linear(values: np.ndarray, factor: float, offset: float) -> np.ndarray:
    """values * factor + offset, clipped to bytes."""
    return np.clip(values.astype(np.float32) * factor + offset, 0, 255).astype(np.uint8)


def pad(arrays: Arrays, maps: Mapping[str, Map], size: tuple[int, int]) -> Arrays:
    """All arrays filled up to the size on all sides: images with 0, labels with what is ignored."""
    height, width = arrays["image"].shape[:2]
    down, right = size[0] - height, size[1] - width
    if down == right == 0:
        return arrays
    up, left = down // 2, right // 2

    def fill(array: np.ndarray, name: str) -> np.ndarray:
        value = 0.0 if name == "image" else maps[name].unlabelled
        border = (value,) * 4
        sides = (up, down - up, left, right - left)
        return cv2.copyMakeBorder(array, *sides, cv2.BORDER_CONSTANT, value=border)

    return each(arrays, fill)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.rounds)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(
        f"one 425x560 sample with four labels ({found['samples']}): {found['ours_ms']:.1f} ms; "
        f"step by step {found['stepwise_ms']:.1f} ms, {found['ratio']:.2f} times as long"
    )


if __name__ == "__main__":
    main()
