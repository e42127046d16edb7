"""Bytes of picture and array files -> arrays; what cannot be one raises ValueError."""

import io
import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from mtlcli.files import PNG
from mtlcli.maps import _picture

WHITE = 127  # the brightest code that is still black


def through_table(image: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Look every byte up in the table of its channel.

    Args:
        image: (H, W, C) uint8.
        tables: (C, 256) float32.

    Returns:
        (C, H, W) float32.
    """
    planes = np.empty((image.shape[2], *image.shape[:2]), np.float32)
    for plane, channel, table in zip(planes, cv2.split(image), tables):
        cv2.LUT(channel, table, dst=plane)
    return planes


def colour(data: bytes) -> np.ndarray:
    """A picture file as RGB (H, W, 3) uint8; what is transparent is black, which is no label."""
    if data.startswith(PNG) and _picture.is_plain_png(data):  # the quicker decoder
        pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ValueError("is not a readable picture")
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
    return _picture.read_rgb(io.BytesIO(data), paper="black")


def indices(data: bytes) -> np.ndarray:
    """A picture file of one channel, palette indices untouched, as (H, W) of its own type."""
    pixels = np.asarray(_picture.open_picture(io.BytesIO(data)))
    if pixels.ndim != 2:
        raise ValueError(f"has {pixels.shape[-1]} channels, a label map has one")
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels


def grey(data: bytes) -> np.ndarray:
    """A picture file as brightness (H, W) uint8."""
    picture = _picture.open_picture(io.BytesIO(data))
    with _picture.failing_in_words():
        return np.asarray(picture.convert("L"))


def white(data: bytes) -> np.ndarray:
    """Where a map of white on black is white, (H, W) bool.

    White is brighter than half of what the file can hold; in one of only 0 and 1, as programs
    write masks, 1 is white.
    """
    values = _picture.read_grey(io.BytesIO(data))
    kinds = set(np.unique(values)[:4].tolist())
    if kinds <= {0, 1}:
        return values > 0
    if kinds == {0, 1, 255}:
        raise ValueError("holds 0, 1 and 255, so 1 or 255 may be white: leave one of them out")
    return np.asarray(_picture.to_bytes(values) > WHITE)


def numbers(data: bytes, axes: int | None = None) -> np.ndarray:
    """A .npy file as float32; of so many axes, if said. Others of length 1, before or after, are
    left out.
    """
    require_whole_npy(data)
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"holds {array.dtype}, not real numbers")
    shape = array.shape
    while array.ndim > (axes or 0) and 1 in (array.shape[0], array.shape[-1]):
        array = array[0] if array.shape[0] == 1 else array[..., 0]
    if axes not in (None, array.ndim) or not array.size:
        raise ValueError(f"has the shape {shape}, expected {axes} axes")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite
        return np.asarray(array.astype(np.float32))


def require_whole_npy(data: bytes) -> None:
    """Raise ValueError if a .npy says that it has more than there is, before memory is taken."""
    file = io.BytesIO(data)
    major = np.lib.format.read_magic(file)[0]
    read: Any = np.lib.format.read_array_header_1_0 if major == 1 else _read_newer_header
    shape, _, dtype = read(file)
    if math.prod(shape) * dtype.itemsize > len(data) - file.tell():
        raise ValueError(f"is cut short: {shape} of {dtype} are more than it holds")


def _read_newer_header(file: io.BytesIO) -> Any:
    return np.lib.format.read_array_header_2_0(file)


def matlab(key: str) -> Callable[[bytes], np.ndarray]:
    """Decoder of one variable of a MATLAB file (version 5 to 7)."""

    def decode(data: bytes) -> np.ndarray:
        from scipy.io import loadmat

        return np.asarray(loadmat(io.BytesIO(data), variable_names=(key,))[key])

    return decode


def require_range(values: np.ndarray, low: float, high: float, what: str) -> np.ndarray:
    """The values, if all are finite and within [low, high]; else ValueError."""
    smallest, largest = values.min(initial=high), values.max(initial=low)
    if not (low <= smallest and largest <= high):  # false for NaN too
        wrong = largest if not largest <= high else smallest
        raise ValueError(f"{what} {wrong:g} is outside {low:g} .. {high:g}")
    return values
