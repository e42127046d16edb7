"""The stored form of a sample: what each array must look like, and its way to bytes and back."""

import io
import zlib
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from PIL import Image

from mtlcli.data.hdf5 import IMAGE, Info
from mtlcli.errors import InputError
from mtlcli.maps._map import NO_OPTIONS
from mtlcli.maps._picture import is_plain, read_rgb

JPEG, PNG = b"\xff\xd8", b"\x89PNG"


def decode(blob: bytes) -> np.ndarray:
    """An array from its blob: JPEG or PNG (colour as RGB, grey as (H, W)) or a zlib-packed .npy
    (raises ValueError where it is none).
    """
    if blob.startswith((JPEG, PNG)):
        flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
        pixels: Any = cv2.imdecode(np.frombuffer(blob, np.uint8), flags)
        if pixels is None or pixels.dtype != np.uint8:
            raise ValueError("is no picture of 8 bits")
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if pixels.ndim == 3 else pixels
    try:
        return np.load(io.BytesIO(zlib.decompress(blob)), allow_pickle=False)
    except (zlib.error, EOFError) as error:
        raise ValueError(f"cannot be unpacked ({error})") from error


def encode(array: np.ndarray) -> bytes:
    """The blob of an array, without loss: PNG for uint8, zlib-packed .npy for the rest."""
    file = io.BytesIO()
    if array.dtype == np.uint8:
        Image.fromarray(array).save(file, "PNG", compress_level=6)
        return file.getvalue()
    np.save(file, array, allow_pickle=False)
    return zlib.compress(file.getvalue(), 6)


def image_pixels(image: np.ndarray | bytes) -> np.ndarray:
    """RGB (H, W, 3) uint8 of an image given as pixels or as a whole picture file."""
    if isinstance(image, np.ndarray):
        return image
    return read_rgb(io.BytesIO(image))


def image_blob(image: np.ndarray | bytes) -> bytes:
    """The blob of an image: a plain JPEG or PNG (see `is_plain`) as it is, anything else as PNG."""
    if isinstance(image, bytes) and is_plain(image):
        return image
    return encode(image_pixels(image))


def require_stored_form(sample: Mapping[str, Any], info: Info, where: str) -> None:
    """Check every array of a sample; `where` names it in messages.

    Raises:
        InputError: an array has another type, size or range than the stored form allows.
    """
    try:
        shape = image_pixels(sample[IMAGE]).shape
    except ValueError as error:
        raise InputError(f"{where}: image cannot be decoded ({error}).") from error
    if info.shape is not None and shape[:2] != info.shape:
        raise InputError(
            f"{where}: image is {_size(shape)}, this dataset's are {_size(info.shape)}."
        )
    for task, label in sample.items():
        if task != IMAGE:
            _require_label(task, label, shape, info, where)


def _require_label(
    task: str, label: np.ndarray, shape: tuple[int, ...], info: Info, where: str
) -> None:
    if label.shape[:2] != shape[:2]:
        raise InputError(f"{where}: {task} is {_size(label.shape)}, its image is {_size(shape)}.")
    expected = info.stored_shape(task, shape[:2])
    if label.shape != expected or label.dtype != info.dtype(task):
        found = f"{label.dtype}{label.shape}"
        raise InputError(f"{where}: {task} is {found}, expected {info.dtype(task)}{expected}.")
    classes, options = len(info.classes.get(task, ())), info.options.get(task, NO_OPTIONS)
    problem = info.map(task).problem(label, classes, options)
    if problem:
        raise InputError(f"{where}: {task} {problem}.")


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[:2])) or "a single number"
