"""Several maps side by side on one sheet: titled, each with the key to its colours.

A sheet has a frame, all that is written around the maps, and the maps themselves; a video keeps the
frame and replaces the maps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

from mtlcli.drawing.legend import FONT, INK, PAPER, draw_key, key_height
from mtlcli.maps._map import Key
from mtlcli.tasks._task import Task

AREA = 448 * 336  # pixels of a tile, whatever its proportions
SMALL_AREA = 336 * 252  # of one among many in a row
MANY = 5  # columns that tiles of the usual size fit into
SHORTEST, LONGEST = 64, 960  # sides of a tile, pixels
NARROWEST = 240  # pixels that a title and a key need
GAP = 12
TITLE = 30
MARGIN = 42  # for the names of rows
RIM = (205, 205, 205)  # of a picture
BEHIND = (236, 236, 236)  # what shows beside a picture too long for its tile
WANTED_PROPORTION = 1.9  # width over height of a sheet


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture of a sheet."""

    title: str
    picture: np.ndarray  # RGB (H, W, 3) uint8
    key: Key | None = None
    note: str = ""  # a few words in place of a key, or beside it
    exact: bool = False  # colours that mean classes: none may be mixed


Cells = Sequence[Sequence[Tile | None]]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where everything is on a sheet of `rows` x `columns` tiles; all numbers in pixels."""

    rows: int
    columns: int
    tile: tuple[int, int]  # height, width of a picture
    key: tuple[int, ...]  # height under the pictures of every row
    margin: int  # left of the first column
    heading: tuple[int, ...]  # height above the pictures of every row

    @property
    def cell_width(self) -> int:
        """From one column to the next."""
        return max(self.tile[1], NARROWEST) + GAP

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the sheet, even, as video needs it."""
        height = self.top(self.rows)
        width = GAP + self.margin + self.columns * self.cell_width
        return height + height % 2, width + width % 2

    def top(self, row: int) -> int:
        """Where a row begins, with its heading."""
        return GAP + sum(self.heading[:row]) + sum(self.key[:row]) + row * (self.tile[0] + GAP)

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Upper left corner (x, y) of a picture."""
        return GAP + self.margin + column * self.cell_width, self.top(row) + self.heading[row]


def tile_of(
    task: Task, prediction: np.ndarray, options: Mapping[str, Any], keyed: bool = True
) -> Tile:
    """A task's map drawn in its colours, with its key.

    Args:
        task: whose map it is.
        prediction: as the task decodes it.
        options: names and palette of the dataset, and the range that several maps share.
        keyed: False leaves the key out, for a sheet whose frame is drawn already.
    """
    picture = task.map.draw(prediction, options)
    key = task.map.key(prediction, options) if keyed else None
    return Tile(title=task.title, picture=picture, key=key, exact=prediction.ndim == 2)


def draw_grid(tiles: Sequence[Tile]) -> np.ndarray:
    """All tiles in as many columns as suit their proportions; RGB (H, W, 3) uint8."""
    return draw_sheet(in_columns(tiles))


def draw_sheet(cells: Cells, names: Sequence[str] = ()) -> np.ndarray:
    """The whole sheet; `names` are those of the rows, if they have some."""
    layout = layout_of(cells, names)
    return fill(draw_frame(layout, cells, names), layout, cells)


def in_columns(tiles: Sequence[Tile]) -> Cells:
    """The tiles in rows, so that the sheet is neither too wide nor too high nor full of holes."""
    height, width = tile_size(*tiles[0].picture.shape[:2])

    def unsuitable(columns: int) -> float:
        rows = -(-len(tiles) // columns)
        proportion = columns * (width + GAP) / (rows * (height + TITLE + GAP + 40))
        return abs(np.log(proportion / WANTED_PROPORTION)) + rows * columns / len(tiles) - 1

    columns = min(range(1, len(tiles) + 1), key=unsuitable)
    return [tiles[i : i + columns] for i in range(0, len(tiles), columns)]


def layout_of(cells: Cells, names: Sequence[str] = (), area: int = AREA) -> Layout:
    """Room for the first tile's proportions, and in each row for its highest key."""
    first = next(tile for row in cells for tile in row if tile)
    columns = max(map(len, cells))
    height, length = first.picture.shape[:2]
    tile = tile_size(height, length, SMALL_AREA if columns > MANY else area)
    width = max(tile[1], NARROWEST)
    return Layout(
        rows=len(cells),
        columns=columns,
        tile=tile,
        key=tuple(
            max((key_height(t.key, t.note, width) for t in row if t), default=0) for row in cells
        ),
        margin=MARGIN if names else 0,
        heading=tuple(TITLE if i == 0 or not names else 0 for i in range(len(cells))),
    )


def tile_size(height: int, width: int, area: int = AREA) -> tuple[int, int]:
    """Height and width of a tile for a picture of this size."""
    scale = min((area / (height * width)) ** 0.5, LONGEST / max(height, width))
    return max(SHORTEST, round(height * scale)), max(SHORTEST, round(width * scale))


def draw_frame(layout: Layout, cells: Cells, names: Sequence[str] = ()) -> np.ndarray:
    """Titles, keys and names of rows on paper, without the pictures."""
    height, width = layout.size
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for i, row in enumerate(cells):
        for j, tile in enumerate(row):
            if tile is None:
                continue
            x, y = layout.corner(i, j)
            if not names:
                pen.text((x, y - 8), tile.title, INK, font=FONT.title(), anchor="ls")
            right, bottom = x + layout.tile[1], y + layout.tile[0]
            pen.rectangle((x - 1, y - 1, right, bottom), outline=RIM)
            below = (x, bottom + 6)
            draw_key(sheet, tile.key, tile.note, below, layout.cell_width - GAP)
    for j, title in enumerate(column_titles(cells) if names else ()):
        x, y = layout.corner(0, j)
        pen.text((x, y - 8), title, INK, font=FONT.title(), anchor="ls")
    for i, name in enumerate(names):
        draw_upwards(sheet, name, layout.corner(i, 0)[1], layout.tile[0])
    return np.array(sheet)


def column_titles(cells: Cells) -> list[str]:
    """What the tiles of each column are called."""
    columns = range(max(map(len, cells)))
    tiles = [[row[j] for row in cells if j < len(row)] for j in columns]
    return [next((t.title for t in column if t), "") for column in tiles]


def draw_upwards(sheet: Image.Image, text: str, top: int, height: int) -> None:
    """The name of a row along its left side, read from below: smaller, then in two lines."""
    if FONT.title().getlength(text) <= height:
        lines, font, first = [text], FONT.title(), 8
    else:
        lines, font = in_two(text, height), FONT.text()
        first = 10 if len(lines) == 1 else 0
    strip = Image.new("RGB", (height, MARGIN), PAPER)
    pen = ImageDraw.Draw(strip)
    for i, line in enumerate(lines):
        pen.text((height // 2, first + 19 * i), line, INK, font=font, anchor="ma")
    sheet.paste(strip.rotate(90, expand=True), (2, top))


def in_two(text: str, width: int) -> list[str]:
    """A name in one or two lines of this width, without its middle if it is longer: names of runs
    differ at the end.
    """
    measure = FONT.text().getlength
    fitting = next(n for n in range(len(text), 0, -1) if n == 1 or measure(text[:n]) <= width)
    if fitting == len(text):
        return [text]
    breaks = [i + 1 for i in range(fitting) if text[i] in "_-/ " and i > fitting // 2]
    first = breaks[-1] if breaks else fitting
    rest = text[first:]
    while len(rest) > 2 and measure(rest) > width:
        rest = "…" + rest[2:]
    return [text[:first], rest]


def fill(frame: np.ndarray, layout: Layout, cells: Cells) -> np.ndarray:
    """A copy of the frame with the pictures in it."""
    sheet = frame.copy()
    height, width = layout.tile
    for i, row in enumerate(cells):
        for j, tile in enumerate(row):
            if tile is None:
                continue
            x, y = layout.corner(i, j)
            sheet[y : y + height, x : x + width] = fit(tile.picture, layout.tile, tile.exact)
    return sheet


def fit(picture: np.ndarray, size: tuple[int, int], exact: bool) -> np.ndarray:
    """The picture in its own proportions, centred on `size` (H, W)."""
    scale = min(size[0] / picture.shape[0], size[1] / picture.shape[1])
    height, width = (min(most, max(1, round(n * scale))) for n, most in zip(picture.shape, size))
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    method = cv2.INTER_NEAREST_EXACT if exact else smooth
    if picture.shape[:2] != (height, width):
        picture = cv2.resize(picture, (width, height), interpolation=method)
    if (height, width) == size:
        return picture
    tile = np.full((*size, 3), BEHIND, np.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    tile[top : top + height, left : left + width] = picture
    return tile
