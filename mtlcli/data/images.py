"""Pictures: reading the user's own, and the form in which networks see them."""

import warnings
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mtlcli.data.moments import Moments
from mtlcli.errors import InputError
from mtlcli.maps._decode import through_table

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
LARGEST = 100_000_000  # pixels


def read_image(path: Path) -> np.ndarray:
    """A picture as RGB (H, W, 3) uint8: upright (EXIF), grey and palettes expanded, what is
    transparent on white, 16 bit cut to 8.

    Raises:
        InputError: not a picture, empty, cut short, or of more than 100 megapixels.
    """
    try:
        if not path.stat().st_size:
            raise InputError(f"{path} is empty (0 bytes).")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's about what `check_size` refuses
            with Image.open(path) as opened:
                check_size(path, *opened.size)
                return to_rgb(ImageOps.exif_transpose(opened))
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} is too large to open: {error}") from error
    except UnidentifiedImageError as error:
        return read_unusual(path, error)
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{path} is not a readable picture ({reason}).") from error


def check_size(path: Path, width: int, height: int) -> None:
    """Refuses what would fill the memory once decompressed.

    Raises:
        InputError: names the size.
    """
    if width * height > LARGEST:
        raise InputError(
            f"{path} is too large to open: {width}x{height} pixels, "
            f"more than {LARGEST // 10**6} megapixels; make it smaller first."
        )


def read_unusual(path: Path, error: Exception) -> np.ndarray:
    """What Pillow cannot read but OpenCV can, such as TIFF of three channels of 16 bits."""
    known = path.suffix.lower() in SUFFIXES and cv2.haveImageReader(str(path))
    found = cv2.imread(str(path), cv2.IMREAD_COLOR) if known else None
    if found is None:
        raise InputError(f"{path} is not a readable picture.") from error
    check_size(path, found.shape[1], found.shape[0])
    return np.ascontiguousarray(found[..., ::-1])


def to_rgb(picture: Image.Image) -> np.ndarray:
    """Any Pillow picture as RGB (H, W, 3) uint8, see `read_image`."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return grey_to_rgb(np.asarray(picture, np.float64))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture)
    return np.asarray(picture.convert("RGB"))


def grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    """16-bit grey by its high byte, floats up to 1 as fractions; what already fits 8 bits stays."""
    brightest = grey.max(initial=0)
    if brightest > 255:
        grey = grey / 257
    elif 0 < brightest <= 1 and (grey % 1).any():
        grey = grey * 255
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def to_resolution(image: np.ndarray, resolution: tuple[float, float]) -> np.ndarray:
    """The picture resized by `resolution` (along y and x); shrinking averages, enlarging
    interpolates.
    """
    if resolution == (1.0, 1.0):
        return image
    height, width = (max(1, round(n * r)) for n, r in zip(image.shape[:2], resolution))
    shrinks = min(resolution) < 1
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def normalise(image: np.ndarray, moments: Moments) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (3, H, W) float32; pixels of these `moments` get 0 and 1."""
    return through_table(image, normalised(moments))


@cache
def normalised(moments: Moments) -> np.ndarray:
    """(3, 256) float32: what every byte of a channel becomes."""
    mean, deviation = np.array(moments, np.float32)
    levels = np.arange(256, dtype=np.float32)[:, None] / 255
    return np.ascontiguousarray(((levels - mean) / deviation).T)
