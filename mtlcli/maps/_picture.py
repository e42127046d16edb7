"""Any picture file as pixels, upright and of 8 bits: the one reader of training, prediction and
datasets.
"""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from mtlcli import files
from mtlcli.files import PNG

FORMATS = (
    "JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "TGA",
    "ICO", "HEIF",
)  # fmt: skip
MOVING = ("GIF", "WEBP", "PNG")  # may be animations
HEIC = (".heic", ".heif")
PHONE = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # kinds of HEIC
LARGEST = 100_000_000  # pixels
TWELVE_BITS = 4095  # the largest number of cameras whose files have 16
ORIENTATION = 0x0112  # EXIF's tag; 1, or what is no orientation, is upright
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@cache
def suffixes() -> tuple[str, ...]:
    """Endings of the names of files that can be read, and of HEIC, which is refused by name."""
    registered = Image.registered_extensions().items()
    return tuple(sorted({*HEIC, *(s for s, kind in registered if kind in FORMATS)} - {".mpo"}))


class Unreadable(ValueError):
    """Why a file gives no picture, to follow its name."""


class Damaged(Unreadable):
    """It is a picture, but not as it was written."""


class Unknown(Unreadable):
    """Pillow does not know what it is."""


def open_picture(file: BinaryIO) -> Image.Image:
    """The picture in a file, decoded and upright; of several the first.

    Raises:
        Unreadable: it is none, empty, cut short, or of more than 100 megapixels.
    """
    head = file.read(32)
    file.seek(0)
    with failing_in_words():
        _require_readable(file, head)
        picture = Image.open(file, formats=_formats())
        require_size(*picture.size)
        picture.load()
        turn = _turn(picture)
        return picture.transpose(UPRIGHT[turn]) if turn else picture


@contextmanager
def failing_in_words() -> Iterator[None]:
    """Whatever Pillow raises within it becomes `Unreadable`; its warnings are left out."""
    try:
        with without_warnings():
            yield
    except Unreadable:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        raise Unreadable(f"is too large to open: {_reason(error)}") from error
    except UnidentifiedImageError as error:
        raise Unknown("is not a readable picture") from error
    except Exception as error:  # what damaged bytes make of a decoder can be anything
        raise Unreadable(f"is not a readable picture ({_reason(error)})") from error


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that are installed."""
    if find_spec("pillow_heif"):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _require_readable(file: BinaryIO, head: bytes) -> None:
    if not head:
        raise Unreadable("is empty (0 bytes)")
    if head[4:8] == b"ftyp" and head[8:12] in PHONE and "HEIF" not in _formats():
        raise Unreadable(
            "is a HEIC picture of a phone: save it as JPEG, or read it with `pip install "
            "pillow-heif`"
        )
    if head.startswith(PNG):  # decoders take half a file for a whole one
        chunks_of_png(file.read())
        file.seek(0)


def is_animated(path: Path) -> bool:
    """Whether a file shows several pictures one after the other; one that cannot be read does
    not.
    """
    try:
        with without_warnings(), Image.open(path, formats=MOVING) as picture:
            return bool(getattr(picture, "is_animated", False))
    except Exception:  # as for `open_picture`
        return False


def require_size(width: int, height: int) -> None:
    """Refuse what would fill the memory once decompressed, or has no pixel at all.

    Raises:
        Unreadable: names the size.
    """
    if not 0 < width * height <= LARGEST:
        raise Unreadable(
            f"is too large to open: {width}x{height} pixels, more than {LARGEST // 10**6} "
            "megapixels; make it smaller first"
            if width * height
            else f"has no pixels ({width}x{height})"
        )


def _turn(picture: Image.Image) -> int | None:
    """The orientation that makes it upright, None if it is so."""
    try:
        turn = picture.getexif().get(ORIENTATION)
    except Exception:  # EXIF of any program of any phone: what cannot be read says nothing
        return None
    return turn if turn in UPRIGHT else None


def _reason(error: BaseException) -> str:
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(words.split()).rstrip(".")


def read_rgb(file: BinaryIO, paper: str = "white") -> np.ndarray:
    """A picture as RGB (H, W, 3) uint8: upright, palettes by colour, what is transparent on paper
    of this colour, numbers of more than 8 bits see `to_bytes`.

    Raises:
        Unreadable: see `open_picture` and `to_bytes`.
    """
    try:
        return to_rgb(open_picture(file), paper)
    except Unknown:
        file.seek(0)
        return _read_unusual(file, paper)


def read_grey(file: BinaryIO) -> np.ndarray:
    """A picture of one channel as numbers (H, W), upright: palettes by the brightness of their
    colours, which is that of the strongest channel; what is transparent is black.

    Raises:
        Unreadable: see `open_picture`; also for a picture in colour.
    """
    picture = open_picture(file)
    if picture.mode in ("1", "L") or _is_deep(picture):
        return np.asarray(picture).astype(np.float32 if _is_deep(picture) else np.uint8)
    shown = to_rgb(picture, "black")
    spread = shown.max(axis=2) - shown.min(axis=2)
    if picture.mode not in ("P", "PA") and spread.max(initial=0) > 2:  # JPEG's rounding
        raise Unreadable("is in colour (3 channels); a map of white on black is grey")
    return np.asarray(shown.max(axis=2))


def to_rgb(picture: Image.Image, paper: str = "white") -> np.ndarray:
    """A Pillow picture as RGB (H, W, 3) uint8, see `read_rgb`."""
    with failing_in_words():
        if _is_deep(picture):
            return np.repeat(to_bytes(np.asarray(picture, np.float64))[..., None], 3, axis=2)
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            below = Image.new("RGBA", picture.size, paper)
            picture = Image.alpha_composite(below, picture)
        return np.asarray(picture.convert("RGB"))


def _is_deep(picture: Image.Image) -> bool:
    """Whether it is grey of more than 8 bits."""
    return picture.mode.startswith("I") or picture.mode == "F"


def to_bytes(grey: np.ndarray) -> np.ndarray:
    """16 bits by their high byte (or 12, where no number is larger), floats up to 1 as fractions;
    what already fits 8 bits stays.

    Raises:
        Unreadable: a number is not finite, negative, or of more than 16 bits.
    """
    darkest, brightest = grey.min(initial=0), grey.max(initial=0)
    if not (darkest >= 0 and brightest <= 65535):  # false for NaN too
        raise Unreadable(
            f"holds numbers from {darkest:g} to {brightest:g}; those of a picture are 0 to 1, "
            "to 255 or to 65535"
        )
    if brightest > 255:
        grey = grey * 255 / (TWELVE_BITS if brightest <= TWELVE_BITS else 65535)
    elif 0 < brightest <= 1 and (grey % 1).any():
        grey = grey * 255
    return grey.astype(np.uint8)


def is_taken_for_12_bits(file: BinaryIO) -> bool:
    """Whether a grey picture has 16 bits and holds nothing above 12, which is worth a word; one
    that cannot be read does not.
    """
    try:
        with without_warnings(), Image.open(file, formats=_formats()) as picture:
            brightest = np.asarray(picture).max(initial=0) if _is_deep(picture) else 0
            return bool(255 < brightest <= TWELVE_BITS)
    except Exception:  # as for `open_picture`
        return False


def _read_unusual(file: BinaryIO, paper: str) -> np.ndarray:
    """What Pillow cannot read but OpenCV can: TIFF of three or four channels of 16 bits."""
    data = file.read()
    if data[:4] not in (b"II*\0", b"MM\0*"):
        raise Unreadable("is not a readable picture")
    try:
        with silence_opencv(), without_warnings():
            head = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
            file.seek(head.next)
            head.load(file)
            require_size(int(head.get(256, 0)), int(head.get(257, 0)))
            found: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, OSError, SyntaxError, struct.error, TypeError) as error:
        raise Unreadable("is not a readable picture") from error
    if found is None or found.dtype != np.uint16 or found.ndim != 3 or found.shape[2] < 3:
        raise Unreadable("is not a readable picture")
    eight = (found / 257).astype(np.uint8)
    order = cv2.COLOR_BGRA2RGBA if eight.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return to_rgb(Image.fromarray(cv2.cvtColor(eight, order)), paper)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Pillow's are left out: of sizes that are refused here, of EXIF that is read as none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def silence_opencv() -> Iterator[None]:
    """OpenCV's own messages are left out."""
    logging = cv2.utils.logging
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)


def is_plain(data: bytes) -> bool:
    """Whether a file is a JPEG or PNG whose pixels any decoder takes for what `read_rgb` makes of
    them: RGB of 8 bits, upright, opaque.
    """
    if data.startswith(PNG):
        return is_plain_png(data)
    if not data.startswith(b"\xff\xd8"):
        return False
    with without_warnings(), Image.open(io.BytesIO(data), formats=("JPEG", "MPO")) as picture:
        return picture.mode == "RGB" and _turn(picture) is None


def is_plain_png(data: bytes) -> bool:
    """The same of a PNG (raises Damaged where it is so)."""
    depth, kind = data[24:26]
    return (depth, kind) == (8, 2) and not chunks_of_png(data) & {b"tRNS", b"eXIf", b"acTL"}


def chunks_of_png(data: bytes) -> set[bytes]:
    """The kinds of chunks of a PNG (raises Damaged unless it is whole)."""
    try:
        return files.chunks_of_png(data)
    except ValueError as error:
        raise Damaged(str(error)) from error
