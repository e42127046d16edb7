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
from mtlcli.maps import depth
from mtlcli.maps._colours import plain
from mtlcli.maps._map import Ball, Key, Scale, Swatches
from mtlcli.maps.classes import spell
from mtlcli.maps.depth import METRES
from mtlcli.maps.directions import draw_ball
from mtlcli.page.downloads import ZIP, Saved
from mtlcli.runs.checkpoint import Trained

VALUES = 512  # pixels along the longer side of the hidden pictures
BALL = 44  # pixels, of the key to directions
OVERLAY = "Laid over the picture"
SAVE = '<button type="button" data-save="{}">Save colours</button>'
POINTS = (
    '<figure class="mtl-points"><figcaption><b>Points in space</b></figcaption>'
    '<canvas tabindex="0" role="img" aria-label="The picture as points in space: drag, or use the '
    'arrow keys, to turn it"></canvas><div class="mtl-key">From the depth, for a camera that sees '
    "60\u00b0 across. Drag or use the arrow keys to turn, double click to turn back.</div></figure>"
)


def tiles_html(
    trained: Trained,
    image: np.ndarray,
    tiles: Sequence[Tile],
    maps: Mapping[str, np.ndarray],
    overlaid: np.ndarray | None = None,
    saved: Saved | None = None,
) -> str:
    """The picture, one tile per task in the order of `trained.tasks`, the overlay, and, where there
    is depth in metres, points to turn.

    Args:
        trained: the network.
        image: RGB (H, W, 3) uint8.
        tiles: of the tasks.
        maps: likewise, by name.
        overlaid: the picture with classes and boundaries on it.
        saved: files to download.
    """
    everything = link(saved.address(saved.everything), ZIP, "Save all maps (.zip)") if saved else ""
    figures = [figure(Tile(title="Picture", picture=image), links=everything)]
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
        own = link(saved.address(saved.values[name]), f"{name}.png", "Save values") if saved else ""
        figures.append(figure(tile, hover, own + SAVE.format(name)))
    if overlaid is not None:
        tile = Tile(title=OVERLAY, picture=overlaid, exact=True)
        figures.append(figure(tile, links=SAVE.format("overlay")))
    if any(
        task.map.usual == depth.MAP.usual and task.unit == METRES for task in trained.tasks.values()
    ):
        figures.append(POINTS)
    return f'<div class="mtl-tiles">{"".join(figures)}</div>'


def figure(tile: Tile, hover: str = "", links: str = "") -> str:
    """One tile: title, room for the value under the pointer, picture, key to its colours, and what
    can be saved of it.
    """
    kind = "PNG" if tile.exact else "WEBP"  # class colours must not blur
    title = escape(tile.title)
    return (
        f'<figure class="mtl-tile" {hover}>'
        f"<figcaption><b>{title}</b><output></output></figcaption>"
        f'<div class="mtl-picture"><img alt="{title}" src="{data_url(tile.picture, kind)}">'
        f'<i class="mtl-cross"></i></div><div class="mtl-key">{key_html(tile.key)}</div>'
        f'<div class="mtl-links">{links}</div></figure>'
    )


def link(address: str, name: str, text: str) -> str:
    """To a file that is saved under a name."""
    return f'<a href="{escape(address)}" download="{escape(name)}">{text}</a>'


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
