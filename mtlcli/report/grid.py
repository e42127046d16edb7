"""Several maps of one picture side by side, titled, with the names of the classes in sight."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mtlcli import colors

TILE = 448  # pixels along the longer side of a tile
GAP = 8
TITLE = 26
SWATCH = 14
BACKGROUND = (255, 255, 255)
INK = (20, 20, 20)
LARGEST_LEGEND = 8  # entries


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture of the grid."""

    title: str
    picture: np.ndarray  # RGB (H, W, 3) uint8
    legend: Sequence[
        tuple[str, tuple[int, int, int]]
    ] = ()  # names and colours, most frequent first


def tile_of(
    task: Any, prediction: np.ndarray, names: Sequence[str], options: Mapping[str, Any]
) -> Tile:
    """A task's map drawn in its colours, with the legend or range that belongs to it."""
    if prediction.ndim == 2 and names:
        counts = np.bincount(prediction.ravel(), minlength=256)[: len(names)]
        palette = options.get("palette") or colors.voc_palette(len(names))
        seen = [i for i in np.argsort(-counts, kind="stable") if counts[i]][:LARGEST_LEGEND]
        legend = [(names[i], rgb(palette[i])) for i in seen]
        return Tile(title=task.title, picture=task.draw(prediction, options), legend=legend)
    title = task.title
    if task.unit == "m":
        near, far = colors.depth_range(prediction[0])
        title = f"{task.title}, {near:.1f} m (bright) to {far:.1f} m"
    return Tile(title=title, picture=task.draw(prediction, options))


def rgb(colour: Sequence[int]) -> tuple[int, int, int]:
    """Plain integers, which Pillow wants."""
    red, green, blue = map(int, colour)
    return red, green, blue


def draw_grid(tiles: Sequence[Tile], columns: int) -> np.ndarray:
    """All tiles, scaled alike, in rows of `columns`; RGB (H, W, 3) uint8."""
    height, width = tiles[0].picture.shape[:2]
    scale = TILE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    legend = 2 * (SWATCH + 6) if any(t.legend for t in tiles) else 0
    cell = max(size[0], 200) + GAP, size[1] + TITLE + legend + GAP
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * cell[0] + GAP, rows * cell[1] + GAP), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for i, tile in enumerate(tiles):
        x, y = GAP + (i % columns) * cell[0], GAP + (i // columns) * cell[1]
        pen.text((x, y + 3), tile.title, INK, font=ImageFont.load_default(15))
        smooth = not tile.legend
        method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
        sheet.paste(Image.fromarray(tile.picture).resize(size, method), (x, y + TITLE))
        draw_legend(pen, tile, x, y + TITLE + size[1] + 4, cell[0] - GAP)
    return np.asarray(sheet)


def draw_legend(pen: ImageDraw.ImageDraw, tile: Tile, left: int, top: int, width: int) -> None:
    """Swatches with names in two lines; what does not fit is left out."""
    font = ImageFont.load_default(12)
    x, y = left, top
    for name, colour in tile.legend:
        needed = SWATCH + 4 + int(pen.textlength(name, font=font)) + 10
        if x + needed > left + width:
            x, y = left, y + SWATCH + 4
        if y > top + SWATCH + 4:
            return
        pen.rectangle((x, y, x + SWATCH, y + SWATCH - 2), fill=colour, outline=INK)
        pen.text((x + SWATCH + 4, y - 1), name, INK, font=font)
        x += needed
