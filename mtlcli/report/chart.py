"""HTML and SVG from elements, and line charts of them: small, and sharp at any size."""

import html
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

VOID = {"img", "link", "meta", "wbr"}  # elements without an end
WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 10, 38  # margins
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#c79500", "#56b4e9", "#8b5cf6", "#7f7f7f")
DASHES = (None, "7 3", "2 3")  # one after another, when the colours are used up
POINTS = 200  # of a line; of more, neighbours are averaged
LEAST = 0.1  # range of an axis over its values, or rounding noise looks like a curve
LEAST_RATIO = 1.25  # between the ends of a logarithmic axis
MARGIN = 0.05  # of the range, between the values and the frame
Limits = tuple[float, float]


class Html(str):
    """Finished markup, which is not escaped again."""


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """One element.

    Args:
        name: of the element.
        children: `Html` stays as it is, None is left out, anything else is escaped text.
        attributes: `class_` is class, `stroke_width` is stroke-width; None is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    start = f"<{name}{written}>"
    return Html(start if name in VOID else f"{start}{together(children)}</{name}>")


def together(children: Iterable[object]) -> Html:
    """Children one after the other."""
    return Html("".join(map(escape, children)))


def escape(child: object) -> str:
    """A child as markup."""
    if child is None:
        return ""
    return child if isinstance(child, Html) else html.escape(str(child))


@dataclass(frozen=True, kw_only=True)
class Line:
    """One curve; points that are not finite are left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    mark: tuple[float, float] | None = None  # a point to show
    turn: int | None = None  # of its colour; by default its place among the lines


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Where numbers are drawn."""

    x: Limits
    y: Limits
    logarithmic: bool  # along y

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies in the drawing."""
        low, high, y = (math.log10(v) if self.logarithmic else v for v in (*self.y, y))
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - low) / (high - low)
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    across: str,
    up: str = "",
    x: Limits | None = None,
    y: Limits | None = None,
    logarithmic: bool = False,
    levels: Sequence[Line] = (),
) -> Html:
    """A figure with its legend below; nothing where there is nothing to draw.

    Args:
        title: above it.
        lines: drawn, each in its own colour.
        across: what x is.
        up: what y is, where the title does not say it.
        x, y: limits of the axes; by default what the lines need.
        logarithmic: along y; points that are not above 0 are left out.
        levels: thin grey lines behind, each with its name at its last point.
    """
    turned = [replace(line, turn=i if line.turn is None else line.turn)
              for i, line in enumerate(lines)]  # fmt: skip
    drawn = [kept for line in turned if (kept := drawable(line, logarithmic)).x]
    if not drawn:
        return Html("")
    xs, ys = [v for line in drawn for v in line.x], [v for line in drawn for v in line.y]
    frame = Frame(
        x=x or apart(min(xs), max(xs)),
        y=y or (log_limits if logarithmic else limits)(min(ys), max(ys)),
        logarithmic=logarithmic,
    )
    svg = tag(
        "svg",
        *axes(frame, across, up),
        *(grey(line, frame) for line in levels),
        *(curve(line, frame) for line in drawn),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title}: {', '.join(line.name for line in drawn)}",
    )
    return tag("figure", tag("figcaption", title), svg, legend(drawn), class_="chart")


def drawable(line: Line, logarithmic: bool) -> Line:
    """What can be drawn of a line, in at most about `POINTS` points."""
    points = [
        (a, b)
        for a, b in zip(line.x, line.y)
        if math.isfinite(a) and math.isfinite(b) and (b > 0 or not logarithmic)
    ]
    size = -(-len(points) // POINTS) or 1
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    means = [[sum(axis) / len(group) for axis in zip(*group)] for group in groups]
    return replace(line, x=[m[0] for m in means], y=[m[1] for m in means])


def apart(low: float, high: float) -> Limits:
    """Limits without a margin, of what is no measurement."""
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def limits(low: float, high: float) -> Limits:
    """Ends of an axis from `low` to `high` with a margin; no further below 0 than that, if the
    values are not.
    """
    size = max(abs(low), abs(high))
    half = max(high - low, LEAST * size, 0 if size else 1) / 2
    reach, middle = half * (1 + 2 * MARGIN), (low + high) / 2
    floor = -2 * half * MARGIN if low >= 0 else -math.inf
    return max(middle - reach, floor), middle + reach


def log_limits(low: float, high: float) -> Limits:
    """The same of a logarithmic axis."""
    half = math.sqrt(max(high / low, LEAST_RATIO)) ** (1 + 2 * MARGIN)
    middle = math.sqrt(low * high)
    return middle / half, middle * half


def axes(frame: Frame, across: str, up: str) -> Iterator[Html]:
    """Grid lines, their numbers, and the titles of the axes."""
    for value in ticks(*frame.x):
        x, bottom = frame.place(value, frame.y[0])
        yield tag("line", x1=x, x2=x, y1=TOP, y2=bottom, class_="grid")
        yield tag("text", short(value), x=x, y=bottom + 14, text_anchor="middle")
    for value in (log_ticks if frame.logarithmic else ticks)(*frame.y):
        left, y = frame.place(frame.x[0], value)
        yield tag("line", x1=left, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid")
        yield tag("text", short(value), x=left - 5, y=y + 4, text_anchor="end")
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield tag("text", across, x=middle, y=HEIGHT - 6, text_anchor="middle")
    if up:
        place = f"translate(12 {(TOP + HEIGHT - BOTTOM) / 2:g}) rotate(-90)"
        yield tag("text", up, transform=place, text_anchor="middle")


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers between two."""
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with twice and five times them where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    few = math.log10(high / low) < 3
    found = [m * 10.0**p for p in powers for m in ((1, 2, 5) if few else (1,))]
    inside = [v for v in found if low * 0.999 <= v <= high * 1.001]
    return inside if len(inside) > 1 else ticks(low, high)


def short(value: float) -> str:
    """A tick's number: 20000 as 20k."""
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


def stroke(line: Line) -> dict[str, object]:
    """Attributes that tell a line from the others."""
    lap, place = divmod(line.turn or 0, len(COLOURS))
    return {"stroke": COLOURS[place], "stroke_dasharray": DASHES[lap % len(DASHES)]}


def curve(line: Line, frame: Frame) -> Html:
    """A line with its marked point; a single point is always marked."""
    alone = (line.x[0], line.y[0]) if len(line.x) == 1 else None
    mark = line.mark or alone
    dot = None
    if mark:
        x, y = frame.place(*mark)
        dot = tag("circle", cx=x, cy=y, r=4, fill=stroke(line)["stroke"])
    path = tag("polyline", points=points(line, frame), class_="curve", **stroke(line))
    return together([path, dot])


def grey(line: Line, frame: Frame) -> Html:
    """A level behind the curves."""
    x, y = frame.place(line.x[-1], line.y[-1])
    name = tag("text", line.name, x=x - 2, y=y - 3, text_anchor="end", class_="level")
    return together([tag("polyline", points=points(line, frame), class_="level"), name])


def points(line: Line, frame: Frame) -> str:
    """The line as SVG wants it."""
    places = (frame.place(a, b) for a, b in zip(line.x, line.y))
    return " ".join(f"{a:g},{b:g}" for a, b in places)


def legend(lines: Sequence[Line]) -> Html:
    """Names beside a piece of their line."""
    entries = []
    for line in lines:
        piece = tag("line", x1=0, x2=24, y1=5, y2=5, class_="curve", **stroke(line))
        key = tag("svg", piece, width=24, height=10, aria_hidden="true")
        entries.append(tag("li", key, " ", line.name))
    return tag("ul", *entries, class_="legend")
