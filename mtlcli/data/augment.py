"""The paper's augmentation (ATRC's recipe) on one sample.

Random scale, crop, padding and mirroring are one affine map of the picture; it is applied once to
each array (bilinear for the image, nearest for labels), so that nothing is computed outside the
crop.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mtlcli.data.images import normalise
from mtlcli.data.moments import Moments
from mtlcli.maps._map import IGNORE, Map

SCALES = (0.5, 2.0)  # by default
CROP_ATTEMPTS = 10
LARGEST_CLASS = 0.75  # of the labelled pixels of a crop (cat_max_ratio)

Sample = dict[str, np.ndarray]
NOTHING: Mapping[str, np.ndarray] = {}


@dataclass(frozen=True, kw_only=True)
class View:
    """An axis-aligned affine window on a picture: output pixel (x, y) shows source (x*sx + ox, y*sy
    + oy).
    """

    size: tuple[int, int]  # output height, width
    step: tuple[float, float]  # source pixels per output pixel, along y and x
    origin: tuple[float, float]  # source y, x of the centre of output pixel (0, 0)
    mirrored: bool = False
    zoom: float = 1.0  # how much larger things appear than at the working resolution

    def take(self, array: np.ndarray, interpolation: int) -> np.ndarray:
        """The window's content; outside the source the nearest pixel is repeated."""
        (sy, sx), (oy, ox) = self.step, self.origin
        height, width = self.size
        if self.mirrored:
            sx, ox = -sx, ox + sx * (width - 1)
        matrix = np.array([[sx, 0, ox], [0, sy, oy]], np.float64)
        flags = interpolation | cv2.WARP_INVERSE_MAP
        border = cv2.BORDER_REPLICATE
        return cv2.warpAffine(array, matrix, (width, height), flags=flags, borderMode=border)

    def inside(self, height: int, width: int) -> tuple[slice, slice]:
        """The rows and columns of the window that show the source of this size."""
        spans = []
        for extent, step, origin, length in zip(self.size, self.step, self.origin, (height, width)):
            first = int(np.ceil((-0.5 - origin) / step))
            last = int(np.ceil((length - 0.5 - origin) / step))
            spans.append((np.clip(first, 0, extent), np.clip(last, 0, extent)))
        (top, bottom), (left, right) = spans
        if self.mirrored:
            left, right = self.size[1] - right, self.size[1] - left
        return slice(top, bottom), slice(left, right)


def random_view(
    source: tuple[int, int],
    size: tuple[int, int],
    resolution: tuple[float, float],
    rng: np.random.Generator,
    accept: Callable[[View], bool] = lambda view: True,
    zooms: tuple[float, float] | None = None,
) -> View:
    """A random scale (0.5 to 2 unless it is said), crop and mirror image.

    Args:
        source: height and width of the picture.
        size: height and width of the crop.
        resolution: working pixels per source pixel, along y and x, at scale 1.
        rng: the only source of chance.
        accept: a crop that it refuses is drawn again, up to 10 times (see `is_balanced`).
        zooms: the smallest and the largest scale.
    """
    zoom = rng.uniform(*(zooms or SCALES))
    step = (1 / (resolution[0] * zoom), 1 / (resolution[1] * zoom))
    mirrored = bool(rng.random() < 0.5)
    view = View(size=size, step=step, origin=(0.0, 0.0))
    for _ in range(CROP_ATTEMPTS):
        corner = [
            place(round(length / s), extent, backwards, rng)
            for length, s, extent, backwards in zip(source, step, size, (False, mirrored))
        ]
        origin = (step[0] * (corner[0] + 0.5) - 0.5, step[1] * (corner[1] + 0.5) - 0.5)
        view = View(size=size, step=step, origin=origin, mirrored=mirrored, zoom=zoom)
        if accept(view):
            break
    return view


def place(length: int, extent: int, backwards: bool, rng: np.random.Generator) -> int:
    """Where along an axis a crop of `extent` pixels begins in a picture of `length`: anywhere in a
    longer one, and so that a shorter one stands in its middle (as ATRC's and DeMT's crops have it:
    of an odd rest the larger half comes last, also where the axis is read `backwards`).
    """
    spare = length - extent
    first = int(rng.integers(0, max(spare, 0) + 1))
    return first if spare >= 0 else (spare if backwards else spare + 1) // 2


def is_balanced(classes: np.ndarray) -> bool:
    """Whether no class has 75% or more of the labelled pixels, so that there are two or more
    (mmsegmentation's cat_max_ratio, used by ATRC).
    """
    counts = cv2.calcHist([classes], [0], None, [256], (0, 256))[:IGNORE]
    return bool(counts.max() < LARGEST_CLASS * counts.sum())


def distort_colours(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Photometric distortion of SSD / mmsegmentation: brightness +-32, contrast and saturation x0.5
    to 1.5, hue +-18 degrees of 180, each with probability 1/2, contrast before or after the others.

    All are look-up tables on 8-bit values. image (H, W, 3) uint8 RGB -> the same.
    """
    brightness = rng.uniform(-32, 32) if rng.random() < 0.5 else 0.0
    contrast_first = rng.random() < 0.5
    contrast = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    saturation = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    hue = int(rng.integers(-18, 18)) if rng.random() < 0.5 else 0
    levels = np.arange(256, dtype=np.float32)
    table = to_byte(levels + brightness)
    if contrast_first:
        table = to_byte(table * contrast)
    if brightness or contrast_first:
        image = cv2.LUT(image, table)
    if saturation != 1 or hue:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        for channel, values in enumerate(((levels + hue) % 180, levels * saturation)):
            changed = cv2.LUT(cv2.extractChannel(hsv, channel), to_byte(values))
            cv2.insertChannel(changed, hsv, channel)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if not contrast_first and contrast != 1:
        image = cv2.LUT(image, to_byte(levels * contrast))
    return image


def to_byte(values: np.ndarray) -> np.ndarray:
    """Clipped to 0..255 and truncated."""
    return values.clip(0, 255).astype(np.uint8)


def show(
    sample: Sample,
    view: View,
    maps: Mapping[str, Map],
    moments: Moments,
    taken: Mapping[str, np.ndarray] = NOTHING,
) -> Sample:
    """The sample in a view: normalised image (0 outside the picture), targets of `maps` (unlabelled
    outside).

    A task without a label in this sample is unlabelled everywhere. `maps` says by task what its
    labels look like; `moments` are mean and deviation of the network's input; `taken` are arrays of
    the sample, as they are in view, that the caller has already.
    """
    rows, columns = view.inside(*sample["image"].shape[:2])
    image = taken["image"] if "image" in taken else view.take(sample["image"], cv2.INTER_LINEAR)
    shown = {"image": outside(normalise(image, moments), rows, columns, 0)}
    for name, its in maps.items():
        if name in sample:
            label = taken[name] if name in taken else view.take(sample[name], cv2.INTER_NEAREST)
            target = outside(as_target(label, view, its), rows, columns, its.unlabelled)
            shown[name] = its.crop(target) if its.crop else target
        else:
            shown[name] = its.empty(*view.size)
    return shown


def as_target(label: np.ndarray, view: View, its: Map) -> np.ndarray:
    """The target of a label in stored form, taken through a view."""
    target = its.target(label)
    if view.mirrored and its.mirror:
        target = its.mirror(target)
    return its.zoom(target, view.zoom) if its.zoom else target


def outside(array: np.ndarray, rows: slice, columns: slice, value: float) -> np.ndarray:
    """The same array (..., H, W), everything outside the rectangle set to `value`."""
    array[..., : rows.start, :] = value
    array[..., rows.stop :, :] = value
    array[..., rows, : columns.start] = value
    array[..., rows, columns.stop :] = value
    return array


def augment(
    sample: Sample,
    maps: Mapping[str, Map],
    size: tuple[int, int],
    resolution: tuple[float, float],
    rng: np.random.Generator,
    moments: Moments,
    balanced: Sequence[str] = (),
    zooms: tuple[float, float] | None = None,
) -> Sample:
    """One training sample: image (3, H, W) float32 and a target for every task.

    Args:
        sample: in the stored form (see `mtlcli.data.reader`).
        maps: what the labels look like, by task.
        size: height and width of the crop.
        resolution: working pixels per stored pixel along y and x.
        rng: the only source of chance.
        moments: mean and deviation of the network's input.
        balanced: tasks of which a crop shall show several classes.
        zooms: the smallest and the largest random scale, by default 0.5 and 2.
    """
    taken: Sample = {}
    balancing = [name for name in balanced if name in sample]

    def accept(view: View) -> bool:
        for name in balancing:
            taken[name] = view.take(sample[name], cv2.INTER_NEAREST)
        parts = (taken[name][view.inside(*sample[name].shape)] for name in balancing)
        return all(map(is_balanced, parts))

    view = random_view(sample["image"].shape[:2], size, resolution, rng, accept, zooms)
    taken["image"] = distort_colours(view.take(sample["image"], cv2.INTER_LINEAR), rng)
    return show(sample, view, maps, moments, taken)
