"""All maps of a picture as HTML, each with a hidden picture of its values for the pointer to read.

Values travel as PNG, which browsers decode without loss as 8-bit RGB: class indices and
probabilities (x 255) as grey, steps of a number as high and low byte in red and green,
directions as codes.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from PIL import Image

from mtlcli.drawing.grid import Tile
from mtlcli.maps._colours import plain
from mtlcli.maps._map import Ball, Key, Scale, Swatches
from mtlcli.maps.classes import spell
from mtlcli.maps.directions import draw_ball
from mtlcli.runs.checkpoint import Trained

VALUES = 512  # pixels along the longer side of the hidden pictures
BALL = 44  # pixels, of the key to directions


def tiles_html(
    trained: Trained, image: np.ndarray, tiles: Sequence[Tile], maps: Mapping[str, np.ndarray]
) -> str:
    """The picture and one tile per task, in the order of `trained.tasks`."""
    figures = [figure(Tile(title="Picture", picture=image), hover="")]
    for (name, task), tile in zip(trained.tasks.items(), tiles):
        names = list(map(spell, trained.dataset.classes.get(name, ())))
        options = trained.dataset.drawing(name)
        unit, step = options.get("unit", task.map.unit), task.map.step
        values = as_bytes(task.map.encode(maps[name], options))
        hover = (
            f'data-kind="{task.map.pointed}" data-names="{escape(json.dumps(names))}" '
            f'data-unit="{escape(unit)}" data-step="{step(options) if step else 1:g}" '
            f'data-values="{data_url(values, "PNG")}"'
        )
        figures.append(figure(tile, hover))
    return f'<div class="mtl-tiles">{"".join(figures)}</div>'


def figure(tile: Tile, hover: str) -> str:
    """One tile: title, room for the value under the pointer, picture, key to its colours."""
    kind = "PNG" if tile.exact else "WEBP"  # class colours must not blur
    title = escape(tile.title)
    return (
        f'<figure class="mtl-tile" {hover}>'
        f"<figcaption><b>{title}</b><output></output></figcaption>"
        f'<div class="mtl-picture"><img alt="{title}" src="{data_url(tile.picture, kind)}">'
        f'<i class="mtl-cross"></i></div><div class="mtl-key">{key_html(tile.key)}</div></figure>'
    )


def key_html(key: Key | None) -> str:
    """What explains a map's colours."""
    if isinstance(key, Swatches):
        return "".join(
            f'<span><i style="background:rgb{colour}"></i>{escape(name)}</span>'
            for name, colour in key.entries
        )
    if isinstance(key, Scale):
        stops = ", ".join(f"rgb{plain(c)}" for c in key.colours[:: max(1, len(key.colours) // 16)])
        bar = f'<i class="mtl-bar" style="background:linear-gradient(90deg, {stops})"></i>'
        return f"{escape(key.low)}{bar}{escape(key.high)}"
    if isinstance(key, Ball):
        colours, cover = draw_ball(BALL)
        picture = np.dstack((colours, (255 * cover).astype(np.uint8)))
        return f'<img class="mtl-ball" alt="" src="{data_url(picture, "PNG")}">{escape(key.text)}'
    return ""


def as_bytes(encoded: np.ndarray) -> np.ndarray:
    """What the pointer reads: the values at less resolution, those of 16 bits as two bytes."""
    step = -(-max(encoded.shape[:2]) // VALUES)
    small = encoded[::step, ::step]
    if small.dtype != np.uint16:
        return small
    high, low = small >> 8, small & 255
    return np.stack((high, low, np.zeros_like(low)), -1).astype(np.uint8)


def data_url(picture: np.ndarray, kind: str) -> str:
    """A picture inside the page itself."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, kind)
    encoded = base64.b64encode(content.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{encoded}"
