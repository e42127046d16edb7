"""From an uploaded file to all that the page shows of it."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mtlcli.data.images import read_image
from mtlcli.drawing.overlay import can_overlay
from mtlcli.drawing.prediction import Prediction, predict
from mtlcli.drawing.tiles import tiles_of
from mtlcli.errors import InputError
from mtlcli.page.downloads import save
from mtlcli.page.tiles import OVERLAY, tiles_html
from mtlcli.page.uploads import Uploads
from mtlcli.runs.checkpoint import Trained

MOST_PIXELS = 50_000_000  # of a picture
SHOWN = 1024  # pixels along the longer side; larger pictures are shown smaller


@dataclass(frozen=True, kw_only=True)
class Look:
    """A picture and what the network sees in it."""

    image: np.ndarray  # RGB (H, W, 3) uint8, as shown
    drawn: Mapping[str, np.ndarray]  # title -> a map in colours, or the overlay, like the image
    html: str  # all of it side by side, with the values under the pointer


def look(trained: Trained, upload: Path, uploads: Uploads | None = None) -> Look:
    """Read an upload, predict, draw.

    Args:
        trained: the network.
        upload: the picture's file.
        uploads: where files to download are written, if there is room.

    Raises:
        InputError: not a picture, or one of more than `MOST_PIXELS`.
    """
    seen = see(trained, upload)
    saved = save(seen, uploads) if uploads else None
    tiles = tiles_of(trained, seen.maps)
    drawn = {task.title: tile.picture for task, tile in zip(trained.tasks.values(), tiles)}
    if can_overlay(trained, seen.maps):
        drawn[OVERLAY] = seen.overlay()
    html = tiles_html(trained, seen.image, tiles, seen.maps, drawn.get(OVERLAY), saved)
    return Look(image=seen.image, drawn=drawn, html=html)


def see(trained: Trained, upload: Path) -> Prediction:
    """Read an upload and predict (raises as `look`)."""
    image = shrink(open_upload(upload))
    return Prediction(image=image, maps=predict(trained, image), trained=trained)


def titles_of(trained: Trained) -> list[str]:
    """Of what can be chosen."""
    titles = [task.title for task in trained.tasks.values()]
    return [*titles, *([OVERLAY] if can_overlay(trained, trained.tasks) else [])]


def open_upload(upload: Path) -> np.ndarray:
    """The picture, RGB (H, W, 3) uint8.

    Raises:
        InputError: not a picture, or too many pixels. The message names no path of the server.
    """
    refuse_giants(upload)
    try:
        return read_image(upload)
    except InputError as error:
        raise InputError("This file is not a picture that can be read.") from error


def refuse_giants(upload: Path) -> None:
    """Looks at a picture's size before its pixels are decoded.

    Raises:
        InputError: more than `MOST_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit is here
            with Image.open(upload) as opened:
                pixels = opened.width * opened.height
    except Image.DecompressionBombError:
        pixels = MOST_PIXELS + 1
    except (OSError, ValueError, SyntaxError):
        return  # no picture for Pillow; whether it is one at all is seen when it is read
    if pixels > MOST_PIXELS:
        raise InputError(
            f"This picture is too large: the page takes up to {MOST_PIXELS // 10**6} million "
            "pixels."
        )


def shrink(image: np.ndarray) -> np.ndarray:
    """At most `SHOWN` pixels along the longer side."""
    height, width = image.shape[:2]
    factor = SHOWN / max(height, width)
    if factor >= 1:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
