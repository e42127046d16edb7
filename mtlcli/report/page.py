"""A page that is one file: its style, charts and pictures are inside, nothing is fetched."""

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from PIL import Image

from mtlcli.files import MARK
from mtlcli.report.chart import Html, tag, together

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # asks nobody for anything
ICON = "data:,"  # or a browser asks for one
JPEG_QUALITY = 85
NARROW = 4  # columns that a telephone shows at once
SCROLLS = "Scroll sideways to see all columns \u2192"
SHORT = 14  # letters of a name that does not need to break


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with what stands under it."""

    name: str  # in the address: page.html#name
    title: str
    body: Sequence[Html]


def page(title: str, about: str, sections: Iterable[Section]) -> str:
    """The whole document; sections without a body are left out."""
    shown = [s for s in sections if any(s.body)]
    links = [tag("li", tag("a", s.title, href=f"#{s.name}")) for s in shown]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="generator", content=MARK),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", title),
        tag("link", rel="icon", href=ICON),
        tag("style", Html(files("mtlcli.report").joinpath("page.css").read_text())),
    )
    body = tag(
        "body",
        tag(
            "header",
            tag("h1", title),
            tag("p", about, class_="dim"),
            tag("nav", tag("ul", *links), aria_label="Sections"),
        ),
        tag("main", *(tag("section", tag("h2", s.title), *s.body, id=s.name) for s in shown)),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def table(
    head: Sequence[object],
    rows: Iterable[Html],
    *,
    caption: str,
    text_columns: int = 1,
    kind: str | None = None,
) -> Html:
    """A table that scrolls sideways in its own frame where it is too wide.

    Args:
        head: headings.
        rows: see `row`.
        caption: what it shows.
        text_columns: how many columns, from the left, hold words.
        kind: its class.
    """
    scrolls = tag("span", SCROLLS, class_="scrolls") if len(head) > NARROW else None
    headings = [
        tag("th", cell, scope="col", class_="text" if i < text_columns else None)
        for i, cell in enumerate(head)
    ]
    whole = tag(
        "table",
        tag("caption", caption, scrolls),
        tag("thead", tag("tr", *headings)),
        tag("tbody", *rows),
        class_=kind,
    )
    return tag("section", whole, class_="wide", tabindex="0", aria_label=caption)


def row(name: object, cells: Iterable[object], *, kind: str | None = None, words: int = 0) -> Html:
    """A line of a table: its name, and cells of which the first `words` hold words."""
    values = [tag("td", cell, class_="text" if i < words else None) for i, cell in enumerate(cells)]
    return tag("tr", tag("th", name, scope="row"), *values, class_=kind)


def picture(pixels: np.ndarray, description: str, *, exact: bool) -> Html:
    """An image inside the page.

    Args:
        pixels: RGB (H, W, 3) uint8.
        description: for who cannot see it.
        exact: flat colours that must stay as they are (PNG), not a photo (JPEG).
    """
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    if exact:
        image.save(file, "PNG", optimize=True)
    else:
        image.save(file, "JPEG", quality=JPEG_QUALITY)
    data = base64.b64encode(file.getvalue()).decode()
    kind = "png" if exact else "jpeg"
    return tag(
        "img",
        src=f"data:image/{kind};base64,{data}",
        alt=description,
        width=pixels.shape[1],
        height=pixels.shape[0],
    )


def colours(entries: Mapping[str, tuple[int, int, int]]) -> Html | None:
    """Names beside their colours."""
    if not entries:
        return None
    items = [
        tag("li", block(f"rgb({r},{g},{b})", 10, "swatch"), " ", name)
        for name, (r, g, b) in entries.items()
    ]
    return tag("ul", *items, class_="legend")


def bar(share: float) -> Html:
    """A share of 1 as a length."""
    return block("#0072b2", round(100 * share, 1), "bar")


def block(colour: str, width: float, kind: str) -> Html:
    """A piece of colour, 10 high; its room is that of its class."""
    inside = tag("rect", width=width, height=10, fill=colour)
    room = 100 if kind == "bar" else 10
    return tag(
        "svg",
        inside,
        class_=kind,
        viewBox=f"0 0 {room} 10",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def missing(text: str) -> Html:
    """What the page cannot show, and how to get it."""
    return tag("p", *prose(text), class_="missing")


def note(text: str) -> Html:
    """How to read what stands above."""
    return tag("p", *prose(text), class_="note")


def breaking(text: str) -> Html:
    """A name that may break after what joins its words."""
    words = re.split(r"(?<=[_/.,-])", text)
    pieces = [part for word in words if word for part in (word, tag("wbr"))]
    return tag("span", *pieces[:-1], class_="name long" if len(text) > SHORT else "name")


def prose(text: str) -> list[object]:
    """Text in which what stands between backquotes is code."""
    return [tag("code", part) if i % 2 else part for i, part in enumerate(text.split("`"))]


def charts(figures: Iterable[Html]) -> Html:
    """Charts of one width side by side, as many as fit; nothing where there are none."""
    return side_by_side(figures, "charts")


def tables(found: Iterable[Html]) -> Html:
    """Tables side by side where there is room, each as wide as it needs; nothing where none are."""
    return side_by_side(found, "tables")


def side_by_side(parts: Iterable[Html], kind: str) -> Html:
    """What is not empty, in a frame of its own."""
    drawn = [part for part in parts if part]
    return tag("div", together(drawn), class_=kind) if drawn else Html("")
