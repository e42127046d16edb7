"""A picture's camera: how wide it looks, as typed, as EXIF says or assumed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mtlcli.errors import InputError
from mtlcli.maps._picture import without_warnings

USUAL_VIEW = 60.0  # degrees across, where nothing says the camera's
NARROWEST, WIDEST = 1.0, 179.0  # degrees
MOST = 1e9  # of any number in EXIF
FILM_DIAGONAL = math.hypot(36, 24)  # mm, that "35 mm equivalent" speaks of
EXIF, FOCAL_35 = 0x8769, 0xA405
FOCAL, WIDE, HIGH = 0x920A, 0xA002, 0xA003  # mm; pixels of the picture as it was taken
DENSITY, DENSITY_UNIT = 0xA20E, 0xA210  # pixels of the sensor in a unit of length
MILLIMETRES = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # of that unit; inches unless it is said


@dataclass(frozen=True, kw_only=True)
class Lens:
    """How wide a picture's camera looks."""

    focal: float  # pixels of the picture
    view: float  # degrees, horizontally
    why: str

    def __str__(self) -> str:
        return f"{self.view:.1f} degrees across, focal length {self.focal:.0f} px ({self.why})"


def check_lens(fov: float | None, focal: float | None) -> None:
    """Refuse what no camera has.

    Raises:
        InputError: names the option and the value.
    """
    if fov is not None and focal is not None:
        raise InputError("--fov and --focal exclude each other: each gives the other.")
    if fov is not None and not NARROWEST <= fov <= WIDEST:
        raise InputError(
            f"--fov {fov:g}: degrees across the picture, {NARROWEST:g} to {WIDEST:g}; 60 is usual."
        )
    if focal is not None and not (0 < focal < math.inf):
        raise InputError(f"--focal {focal:g}: pixels of the picture, more than 0.")


def lens_of(
    picture: Path | None, width: int, height: int, fov: float | None, focal: float | None
) -> Lens:
    """What is asked for, else what the picture's EXIF says, else `USUAL_VIEW`.

    Args:
        picture: its file, None where there is none.
        width, height: pixels.
        fov: degrees across.
        focal: pixels.

    Raises:
        InputError: the focal length is absurd for this width.
    """
    if fov is not None:
        return lens(width, focal_of(width, fov), "--fov")
    if focal is not None:
        typed = lens(width, focal, "--focal")
        if not NARROWEST <= typed.view <= WIDEST:
            raise InputError(
                f"--focal {focal:g} of {picture}: {width} pixels across would show "
                f"{typed.view:.3g} degrees, no camera's; {USUAL_VIEW:g} are "
                f"{focal_of(width, USUAL_VIEW):.0f} pixels."
            )
        return typed
    said, diagonal = exif_of(picture) if picture else {}, math.hypot(width, height)
    if equivalent := number(said, FOCAL_35):
        pixels = equivalent / FILM_DIAGONAL * diagonal
        return lens(width, pixels, f"EXIF, {equivalent:g} mm on 35 mm film")
    length, density = number(said, FOCAL), number(said, DENSITY)
    taken = math.hypot(number(said, WIDE), number(said, HIGH)) or diagonal
    found = length * density / MILLIMETRES.get(said.get(DENSITY_UNIT, 2), 25.4) * diagonal / taken
    if found and NARROWEST <= lens(width, found, "").view <= WIDEST:
        return lens(width, found, f"EXIF, {length:g} mm, and the sensor's pixels")
    missing = f"EXIF has {length:g} mm, but no sensor" if length else "the picture does not say"
    why = f"assumed, {missing}; --fov or --focal tells it"
    return lens(width, focal_of(width, USUAL_VIEW), why)


def focal_of(width: int, view: float) -> float:
    """Pixels, of a picture so wide that shows so many degrees."""
    return width / 2 / math.tan(math.radians(view) / 2)


def lens(width: int, focal: float, why: str) -> Lens:
    """From the focal length in pixels."""
    return Lens(focal=focal, view=math.degrees(2 * math.atan(width / 2 / focal)), why=why)


def exif_of(picture: Path) -> Mapping[int, Any]:
    """What EXIF tells of how a picture was taken; nothing where it is damaged, or there is none."""
    try:
        with without_warnings(), Image.open(picture) as opened:
            return dict(opened.getexif().get_ifd(EXIF))
    except Exception:  # what damaged bytes make of a decoder can be anything
        return {}


def number(said: Mapping[int, Any], tag: int) -> float:
    """A value of EXIF, 0 where it is absent, or no number that a camera has."""
    try:
        value = float(said.get(tag, 0))
    except (ValueError, TypeError, ZeroDivisionError):
        return 0.0
    return value if 0 < value < MOST else 0.0
