"""Pictures to try the page with: rooms that are rendered here, so that no photographs ship."""

import cv2
import numpy as np

from mtlcli.datasets.rooms import render

ROOMS = {"A dining room": 2, "A bedroom": 15, "A living room": 20}  # name -> number of the room
SIZE = (360, 480)  # height, width
THUMBNAIL = (90, 120)


def draw_room(name: str, size: tuple[int, int] = SIZE) -> np.ndarray:
    """One of `ROOMS`, RGB (H, W, 3) uint8."""
    return render(ROOMS[name], "val", size)["image"]


def png(picture: np.ndarray) -> bytes:
    """RGB (H, W, 3) uint8 as PNG, quickly."""
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    return cv2.imencode(".png", picture[..., ::-1], fast)[1].tobytes()
