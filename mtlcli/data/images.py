"""Reading the user's own pictures."""

import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mtlcli.errors import InputError

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
