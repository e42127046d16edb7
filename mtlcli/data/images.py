"""Pictures: reading the user's own, and the form in which networks see them."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np

from mtlcli.data.moments import Moments
from mtlcli.errors import InputError
from mtlcli.maps._decode import through_table
from mtlcli.maps._picture import Damaged, Unreadable, read_rgb


def read_image(path: Path) -> np.ndarray:
    """A picture as RGB (H, W, 3) uint8, see `mtlcli.maps._picture.read_rgb`.

    Raises:
        InputError: not a picture, empty, cut short, or of more than 100 megapixels.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path} is no regular file.")
        with path.open("rb") as file:
            return read_rgb(file)
    except Damaged as error:
        raise InputError(f"{path} is not a readable picture (it {error}).") from error
    except Unreadable as error:
        raise InputError(f"{path} {error}.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error


def to_resolution(image: np.ndarray, resolution: tuple[float, float]) -> np.ndarray:
    """The picture resized by `resolution` (along y and x); shrinking averages, enlarging
    interpolates, each axis by itself.
    """
    height, width = (max(1, round(n * r)) for n, r in zip(image.shape[:2], resolution))
    smaller = (min(width, image.shape[1]), min(height, image.shape[0]))
    for size, method in ((smaller, cv2.INTER_AREA), ((width, height), cv2.INTER_LINEAR)):
        if size != image.shape[1::-1]:
            image = cv2.resize(image, size, interpolation=method)
    return image


def normalise(image: np.ndarray, moments: Moments) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (3, H, W) float32; pixels of these `moments` get 0 and 1."""
    return through_table(image, normalised(moments))


@cache
def normalised(moments: Moments) -> np.ndarray:
    """(3, 256) float32: what every byte of a channel becomes."""
    mean, deviation = np.array(moments, np.float32)
    levels = np.arange(256, dtype=np.float32)[:, None] / 255
    return np.ascontiguousarray(((levels - mean) / deviation).T)
