"""Bytes of picture and array files -> arrays; what cannot be one raises ValueError."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from PIL import Image


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


PNG = b"\x89PNG\r\n\x1a\n"


def colour(data: bytes) -> np.ndarray:
    """A picture file as RGB (H, W, 3) uint8."""
    if data.startswith(PNG):  # the quicker decoder takes half a file for a whole one
        require_whole_png(data)
        pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def require_whole_png(data: bytes) -> None:
    """Raise ValueError unless every chunk of a PNG has its checksum, up to the last."""
    position = len(PNG)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        (checksum,) = struct.unpack_from(">I", data, end)
        if zlib.crc32(memoryview(data)[position + 4 : end]) != checksum:
            raise ValueError("has a damaged chunk")
        if kind == b"IEND":
            return
        position = end + 4
    raise ValueError("is cut short")


def indices(data: bytes) -> np.ndarray:
    """A single-channel PNG, palette indices untouched, as (H, W) of its own type."""
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image)
    if pixels.ndim != 2:
        raise ValueError(f"has {pixels.shape[-1]} channels, a label map has one")
    return pixels


def grey(data: bytes) -> np.ndarray:
    """A picture file as brightness (H, W) uint8."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L"))


def numbers(data: bytes) -> np.ndarray:
    """A .npy file as float32, without axes of length 1."""
    return np.asarray(np.load(io.BytesIO(data), allow_pickle=False).astype(np.float32).squeeze())


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
