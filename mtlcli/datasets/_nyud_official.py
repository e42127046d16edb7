"""NYU Depth v2 from the publisher's nyu_depth_v2_labeled.mat, read image by image.

Normals and boundaries are not published there; they are derived from depth and labels.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import h5py
import numpy as np

from mtlcli.datasets._dataset import Files, Sample, decode_member
from mtlcli.datasets._nyud_tables import COUNT, class_of_label, split_rows
from mtlcli.errors import InputError
from mtlcli.maps import _decode
from mtlcli.maps._map import IGNORE

FOCAL = (518.85790117450188, 519.46961112127485)  # RGB camera, pixels
CENTRE = (324.58244941119034, 252.73616633400465)  # of the full frame, counted from 0
SUPPORT = 3  # radius of the square a normal is fitted on, pixels
PARTS = ("images", "depths", "rawDepths", "labels", "instances")
LABELS = 894  # names, numbered from 1
MAX_INSTANCES = 64  # per class and image; 37 occur

Crop = tuple[slice, slice] | None


def find(files: Files) -> str | None:
    """The member that is the labelled set, recognised by the arrays in it."""
    candidates = [n for n in files.names() if n.endswith(".mat")]
    named = [n for n in candidates if n.endswith("nyu_depth_v2_labeled.mat")]
    for name in named or candidates[:3]:
        if not named and not h5py.is_hdf5(files.located(name)):
            continue
        with open_labelled(files, name) as labelled:
            if all(part in labelled for part in PARTS):
                return name
    return None


def open_labelled(files: Files, name: str) -> h5py.File:
    """The labelled set, opened in place.

    Raises:
        InputError: it is cut short or not HDF5.
    """
    try:
        return h5py.File(files.located(name), "r")
    except OSError as error:
        state = "is cut short" if "truncated" in str(error) else "is not a MATLAB 7.3 file"
        raise InputError(f"{files.label}: {name} {state}; get it again.") from error


def read_splits(files: Files, count: int) -> dict[str, np.ndarray]:
    """Rows (from 0) of each split: of splits.mat if it is there, else the known ones.

    Raises:
        InputError: neither fits the number of images.
    """
    lists = [n for n in files.names() if n.endswith("splits.mat")]
    if not lists:
        if count == COUNT:
            return split_rows()
        raise InputError(f"{files.label} has {count} images and no splits.mat beside it.")
    rows = {
        split: decode_member(files, lists[0], _decode.matlab(key)).ravel().astype(np.int64) - 1
        for split, key in (("train", "trainNdxs"), ("val", "testNdxs"))
    }
    if any(((r < 0) | (r >= count)).any() for r in rows.values()):
        raise InputError(
            f"{files.label}: {lists[0]} lists images outside 1 .. {count}, which there are."
        )
    return rows


@dataclass
class Official:
    """Samples of the labelled set."""

    files: Files
    name: str
    rows: Mapping[str, np.ndarray]
    crop: Crop
    _open: h5py.File | None = field(default=None, repr=False)
    _pid: int = -1

    def read(self, split: str, index: int) -> Sample:
        """One sample in stored form."""
        row = int(self.rows[split][index])
        try:
            image, depth, raw, labels, instances = (self._array(p, row) for p in PARTS)
        except OSError as error:
            raise InputError(f"{self.files.label}: image {row + 1} cannot be read.") from error
        for part, values, most in (
            ("labels", labels, LABELS),
            ("instances", instances, MAX_INSTANCES - 1),
        ):
            if values.max() > most:
                raise InputError(
                    f"{self.files.label}: {part} of image {row + 1}: value {values.max()} is "
                    f"outside 0 .. {most}."
                )
        sample = {
            "image": image,
            "semseg": classes(labels),
            "depth": depth.astype(np.float32),
            "normals": normal_codes(depth, raw > 0),
            "edge": boundaries(labels.astype(np.int32) * MAX_INSTANCES + instances),
        }
        return {k: np.ascontiguousarray(v if self.crop is None else v[self.crop])
                for k, v in sample.items()}  # fmt: skip

    def _array(self, part: str, row: int) -> np.ndarray:
        """One image's array with MATLAB's reversed axes put right: (H, W[, 3])."""
        if self._open is None or self._pid != os.getpid():
            self._open, self._pid = open_labelled(self.files, self.name), os.getpid()
        return self._open[part][row].T

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": None, "_pid": -1}


def classes(labels: np.ndarray) -> np.ndarray:
    """(H, W) uint8 index 0..39 of labels 0..894, unlabelled 255."""
    assert IGNORE == 255
    return class_of_label()[labels] - np.uint8(1)  # 0 wraps to 255


def boundaries(regions: np.ndarray) -> np.ndarray:
    """255 where a 2x2 block spans several regions, at its upper left pixel (BSDS seg2bdry)."""
    down = regions[:-1] != regions[1:]
    right = regions[:, :-1] != regions[:, 1:]
    edge = np.zeros(regions.shape, np.uint8)
    edge[:-1, :-1] = right[:-1] | right[1:] | down[:, :-1] | down[:, 1:]
    return edge * np.uint8(255)


def normal_codes(depth: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Normals of a depth map as uint8 codes, (0, 0, 0) where depth was not measured."""
    codes = np.rint((normals(depth) + 1) * 127.5).astype(np.uint8)
    codes[~measured] = 0
    return codes


def normals(depth: np.ndarray) -> np.ndarray:
    """Outward unit normals (H, W, 3) of a full-frame depth map in metres (Gupta's computeNormals).

    With Q = P / Z the ray of a pixel, a plane obeys n . Q = 1 / Z; n is its least-squares solution
    in a square around the pixel. Camera frame: x right, y down, z forward.
    """
    height, width = depth.shape
    x, y = np.meshgrid(np.arange(width) - CENTRE[0], np.arange(height) - CENTRE[1])
    x, y = x / FOCAL[0], y / FOCAL[1]
    inverse = 1 / np.maximum(depth.astype(np.float64), 1e-3)
    xx, xy, yy, mx, my = map(_mean, (x * x, x * y, y * y, x, y))
    bx, by, b1 = map(_mean, (x * inverse, y * inverse, inverse))
    # adjugate of [[xx, xy, mx], [xy, yy, my], [mx, my, 1]], whose determinant is positive
    axx, axy, ax1 = yy - my * my, mx * my - xy, xy * my - yy * mx
    ayy, ay1, a11 = xx - mx * mx, xy * mx - xx * my, xx * yy - xy * xy
    n = np.stack(
        [
            axx * bx + axy * by + ax1 * b1,
            axy * bx + ayy * by + ay1 * b1,
            ax1 * bx + ay1 * by + a11 * b1,
        ],
        axis=-1,
    )
    away = n[..., 0] * x + n[..., 1] * y + n[..., 2] > 0
    n *= np.where(away, 1, -1)[..., None]
    return n / np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-300)


def _mean(values: np.ndarray) -> np.ndarray:
    side = 2 * SUPPORT + 1
    return cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT)
