"""Reading the user's own pictures."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mtlcli.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")


def find_images(source: Path) -> list[Path]:
    """The picture itself, or all pictures of a folder by name.

    Raises:
        InputError: nothing there, or a folder without pictures.
    """
    if source.is_dir():
        found = sorted(p for p in source.iterdir() if p.suffix.lower() in SUFFIXES)
        if not found:
            raise InputError(f"{source} holds no pictures ({', '.join(SUFFIXES)}).")
        return found
    if not source.exists():
        raise InputError(f"There is no picture or folder {source}.")
    return [source]


def read_image(path: Path) -> np.ndarray:
    """A picture as RGB (H, W, 3) uint8: upright (EXIF), grey and palettes expanded, alpha dropped,
    16 bit cut to 8.

    Raises:
        InputError: not a picture, truncated, or larger than Pillow's limit against decompression
        bombs.
    """
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            if upright.mode.startswith("I") or upright.mode == "F":
                return grey_to_rgb(np.asarray(upright, np.float64))
            return np.asarray(upright.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} is not a readable picture ({error}).") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{path} is too large to open ({error}).") from error


def grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    """16-bit grey by its high byte; what already fits 8 bits stays."""
    levels = grey / 257 if grey.max(initial=0) > 255 else grey
    return np.repeat(levels.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
