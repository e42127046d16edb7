"""The key under a map: swatches with names, a bar with two ends, or a ball of normals."""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mtlcli.maps import directions
from mtlcli.maps._map import Ball, Key, Scale, Swatches

PAPER = (255, 255, 255)
INK = (24, 24, 24)
FAINT = (110, 110, 110)

LINE = 23  # height of a line, pixels
LINES = 3  # of names at most
SWATCH = 15
BAR = (150, 14)  # width, height of a scale
DIAMETER = 62  # of a ball
BESIDE = DIAMETER + 10  # where its text begins
SPACE = 8  # under the picture

Entry = tuple[str, tuple[int, int, int] | None]


class FONT:
    """The sizes of letters that a sheet has."""

    @staticmethod
    @cache
    def title() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        """Over a map."""
        return ImageFont.load_default(20)

    @staticmethod
    @cache
    def text() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        """In a key."""
        return ImageFont.load_default(16)


def key_height(key: Key | None, note: str, width: int) -> int:
    """Pixels that `draw_key` needs under a picture of this width."""
    lines = len(wrap(note, room_for_text(key, width)))
    if isinstance(key, Swatches):
        lines += len(in_lines(key, width))
    elif isinstance(key, Scale):
        lines += 1
    elif isinstance(key, Ball):
        lines += len(wrap(key.text, room_for_text(key, width)))
        return max(DIAMETER, lines * LINE) + SPACE
    return lines * LINE + SPACE if lines else 0


def room_for_text(key: Key | None, width: int) -> int:
    """Pixels of a line of words: a ball stands beside them."""
    return width - BESIDE if isinstance(key, Ball) else width


def draw_key(
    sheet: Image.Image, key: Key | None, note: str, corner: tuple[int, int], width: int
) -> None:
    """A key, and the note after it, on `sheet` from `corner` (x, y) on."""
    pen = ImageDraw.Draw(sheet)
    x, y = corner
    lines = wrap(note, room_for_text(key, width))
    if isinstance(key, Swatches):
        y = draw_swatches(pen, key, x, y, width)
    elif isinstance(key, Scale):
        draw_scale(sheet, pen, key, x, y, width)
        y += LINE
    elif isinstance(key, Ball):
        lines = wrap(key.text, room_for_text(key, width)) + lines
        draw_ball(sheet, x, y)
        x += BESIDE
        y += max(0, DIAMETER - LINE * len(lines)) // 2
    for line in lines:
        pen.text((x, y), line, INK, font=FONT.text())
        y += LINE


def wrap(text: str, width: int) -> list[str]:
    """The words in lines of this width; a word that is wider has its own line."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and FONT.text().getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def in_lines(key: Swatches, width: int) -> list[list[Entry]]:
    """The entries in lines of this width; what does not fit in all lines is counted at the end."""
    lines: list[list[Entry]] = [[]]
    used = 0
    for index, (name, colour) in enumerate(key.entries):
        needed = entry_width(name)
        left = len(key.entries) - index
        reserved = entry_width(f"+{left} more") if len(lines) == LINES and left > 1 else 0
        if lines[-1] and used + needed + reserved > width:
            if len(lines) == LINES:
                lines[-1].append((f"+{left} more", None))
                return lines
            lines.append([])
            used = 0
        lines[-1].append((name, colour))
        used += needed
    return lines if key.entries else []


def entry_width(name: str) -> int:
    """Pixels of a swatch with its name and the gap to the next."""
    return SWATCH + 5 + int(FONT.text().getlength(name)) + 14


def draw_swatches(pen: ImageDraw.ImageDraw, key: Swatches, left: int, top: int, width: int) -> int:
    """Returns where the next line begins."""
    y = top
    for line in in_lines(key, width):
        x = left
        for name, colour in line:
            if colour is None:
                pen.text((x, y), name, FAINT, font=FONT.text())
                continue
            pen.rectangle((x, y + 2, x + SWATCH, y + SWATCH + 2), fill=colour, outline=FAINT)
            pen.text((x + SWATCH + 5, y), name, INK, font=FONT.text())
            x += entry_width(name)
        y += LINE
    return y


def draw_scale(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, key: Scale, left: int, top: int, room: int
) -> None:
    """low, the bar, high; the bar is shorter where there is less room."""
    font, (width, height) = FONT.text(), BAR
    width = min(width, room - int(font.getlength(key.low) + font.getlength(key.high)) - 17)
    pen.text((left, top), key.low, INK, font=font)
    x = left + int(font.getlength(key.low)) + 8
    columns = np.linspace(0, len(key.colours) - 1, width).astype(int)
    bar = np.repeat(key.colours[columns][None], height, axis=0)
    sheet.paste(Image.fromarray(np.ascontiguousarray(bar)), (x, top + 3))
    pen.rectangle((x - 1, top + 2, x + width, top + 3 + height), outline=FAINT)
    pen.text((x + width + 8, top), key.high, INK, font=font)


def draw_ball(sheet: Image.Image, left: int, top: int) -> None:
    """The ball of normals."""
    picture, cover = directions.draw_ball(DIAMETER)
    mask = Image.fromarray((cover * 255).astype(np.uint8))
    sheet.paste(Image.fromarray(picture), (left, top), mask)
