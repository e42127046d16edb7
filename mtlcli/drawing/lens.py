"""A picture's camera: how wide it looks, as typed, as EXIF says or assumed."""

import math
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mtlcli.errors import InputError

USUAL_VIEW = 60.0  # degrees across, where nothing says the camera's
NARROWEST, WIDEST = 1.0, 179.0  # degrees
FILM_DIAGONAL = math.hypot(36, 24)  # mm, that "35 mm equivalent" speaks of
EXIF, FOCAL_35 = 0x8769, 0xA405


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


def lens_of(picture: Path, width: int, height: int, fov: float | None, focal: float | None) -> Lens:
    """What is asked for, else what the picture's EXIF says, else `USUAL_VIEW`.

    Args:
        picture: its file.
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
    equivalent = focal_35(picture)
    if equivalent:
        pixels = equivalent / FILM_DIAGONAL * math.hypot(width, height)
        return lens(width, pixels, f"EXIF, {equivalent:g} mm on 35 mm film")
    why = "assumed, the picture does not say; --fov or --focal tells it"
    return lens(width, focal_of(width, USUAL_VIEW), why)


def focal_of(width: int, view: float) -> float:
    """Pixels, of a picture so wide that shows so many degrees."""
    return width / 2 / math.tan(math.radians(view) / 2)


def lens(width: int, focal: float, why: str) -> Lens:
    """From the focal length in pixels."""
    return Lens(focal=focal, view=math.degrees(2 * math.atan(width / 2 / focal)), why=why)


def focal_35(picture: Path) -> float:
    """Millimetres on 35 mm film that EXIF tells, 0 if it does not."""
    try:
        with Image.open(picture) as opened:
            said = float(opened.getexif().get_ifd(EXIF).get(FOCAL_35, 0))
    except (OSError, SyntaxError, ValueError, TypeError, ZeroDivisionError):
        return 0.0
    return said if 1 <= said <= 5000 else 0.0
