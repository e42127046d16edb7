"""Builders of lamps, rugs, doors, windows and pictures, in the frame that furniture has."""

from mtlcli.datasets._rooms.solids import ELLIPSOID, FRUSTUM, Material, Piece, Solid, box, column
from mtlcli.datasets._rooms.style import Style, shade


def floor_lamp(style: Style) -> Piece:
    """A standing lamp with a shade."""
    metal, height = style.metal(), style.dice.between(1.35, 1.7)
    solids = [
        column((0, 0, 0), 0.03, 0.14, metal),
        column((0, 0, 0.03), height - 0.25, 0.015, metal),
        lampshade(style, height - 0.15, style.dice.between(0.16, 0.22)),
    ]
    return Piece(
        kind="lamp", solids=tuple(solids), size=(0.42, 0.42, height), light=(0, 0, height - 0.15)
    )


def table_lamp(style: Style) -> Piece:
    """A lamp that stands on other furniture."""
    foot = Material(pattern="plain", a=style.accent(), gloss=0.5)
    body = Solid(shape=ELLIPSOID, centre=(0, 0, 0.11), half=(0.08, 0.08, 0.11), material=foot)
    solids = (column((0, 0, 0), 0.3, 0.015, style.metal()), body, lampshade(style, 0.36, 0.13))
    return Piece(kind="lamp", solids=solids, size=(0.3, 0.3, 0.47), light=(0, 0, 0.36))


def pendant(style: Style, drop: float) -> Piece:
    """A lamp hanging from a ceiling at z = 0 by `drop` metres: a globe or a shade on a cord."""
    cord = Material(pattern="plain", a=(0.1, 0.1, 0.1))
    solids = [column((0, 0, -drop), drop, 0.008, cord)]
    if style.dice.chance(0.5):
        globe = Material(pattern="plain", a=(1.0, 0.95, 0.86), glow=1.6)
        half = (0.15, 0.15, 0.15)
        solids.append(Solid(shape=ELLIPSOID, centre=(0, 0, -drop), half=half, material=globe))
    else:
        solids.append(lampshade(style, -drop, style.dice.between(0.18, 0.26)))
    return Piece(
        kind="lamp", solids=tuple(solids), size=(0.5, 0.5, drop + 0.2), light=(0, 0, -drop - 0.25)
    )


def lampshade(style: Style, height: float, radius: float) -> Solid:
    """A glowing tapered shade centred at `height`."""
    warm = style.dice.one_of([(1.0, 0.93, 0.78), (0.98, 0.86, 0.66), (0.95, 0.9, 0.86)])
    material = Material(pattern="fabric", a=warm, b=shade(warm, 0.9), scale=0.2, glow=1.1)
    half = (radius, radius, radius * style.dice.between(0.6, 0.85))
    taper = -style.dice.between(0.1, 0.3)
    return Solid(
        shape=FRUSTUM,
        centre=(0, 0, height),
        half=half,
        material=material,
        taper=taper,
    )


def rug(style: Style, width: float, depth: float) -> Piece:
    """A thin rug with a border, oblong or round."""
    a = style.accent()
    b = style.dice.one_of([shade(a, 0.5), (0.9, 0.86, 0.78), style.accent()])
    if style.dice.chance(0.25):
        half = (depth / 2, depth / 2, 0.006)
        material = Material(pattern="rings", a=a, b=b, scale=depth / 8)
        solid = Solid(shape=FRUSTUM, centre=(0, 0, 0.006), half=half, material=material)
        return Piece(kind="rug", solids=(solid,), size=(depth, depth, 0.012))
    material = Material(pattern="rug", a=a, b=b, scale=style.dice.between(0.15, 0.35))
    solid = box((0, 0, 0.006), (width, depth, 0.012), material)
    return Piece(kind="rug", solids=(solid,), size=(width, depth, 0.012))


def door(style: Style) -> Piece:
    """A closed door in its frame, with panels and a handle; its back in the wall."""
    dice = style.dice
    width, height = dice.between(0.78, 0.95), dice.between(1.98, 2.1)
    leaf = dice.one_of([style.woods[0][0], (0.93, 0.92, 0.89), style.accent()])
    frame = Material(pattern="plain", a=dice.one_of([(0.93, 0.92, 0.89), shade(leaf, 0.7)]))
    panels = Material(pattern="panels", a=leaf, b=shade(leaf, 0.62), scale=dice.one_of([2, 3]))
    side = dice.one_of([-1, 1]) * (width / 2 - 0.09)
    knob = Solid(
        shape=ELLIPSOID,
        centre=(side, -0.06, 1.02),
        half=(0.03, 0.035, 0.03),
        material=style.metal(),
    )
    solids = [box((0, 0.0, height / 2), (width, 0.04, height), panels), knob]
    solids += _frame(width, height, 0.0, 0.07, frame)[:3]
    return Piece(kind="door", solids=tuple(solids), size=(width + 0.14, 0.1, height + 0.07))


def _frame(width: float, height: float, low: float, bar: float, material: Material) -> list[Solid]:
    """Bars left, right, above and below an opening whose sill is at `low`."""
    middle = low + height / 2
    return [
        box((-(width + bar) / 2, -0.01, middle), (bar, 0.08, height), material),
        box(((width + bar) / 2, -0.01, middle), (bar, 0.08, height), material),
        box((0, -0.01, low + height + bar / 2), (width + 2 * bar, 0.08, bar), material),
        box((0, -0.02, low - bar / 2), (width + 2 * bar, 0.12, bar), material),
    ]


def window(style: Style, width: float, height: float, night: bool) -> Piece:
    """A window with bars and a view painted on its pane; z = 0 is its sill."""
    dice = style.dice
    sky = (0.05, 0.07, 0.16) if night else dice.one_of([(0.62, 0.8, 0.98), (0.86, 0.9, 0.95)])
    land = (0.02, 0.03, 0.05) if night else dice.one_of([(0.3, 0.5, 0.25), (0.45, 0.5, 0.52)])
    pane = Material(pattern="view", a=sky, b=land, scale=dice.between(0.5, 2), glow=1.0)
    white = Material(pattern="plain", a=dice.one_of([(0.94, 0.94, 0.92), style.woods[0][1]]))
    solids = [box((0, 0.02, height / 2), (width, 0.02, height), pane)]
    solids += _frame(width, height, 0.0, 0.06, white)
    for i in range(1, max(2, round(width / 0.7))):
        x = (i / max(2, round(width / 0.7)) - 0.5) * width
        solids.append(box((x, -0.01, height / 2), (0.045, 0.05, height), white))
    if dice.chance(0.5):
        solids.append(box((0, -0.01, height * 0.6), (width, 0.05, 0.035), white))
    light = (0.0, -0.35, height / 2)
    return Piece(
        kind="window", solids=tuple(solids), size=(width + 0.12, 0.1, height + 0.12), light=light
    )


def picture(style: Style) -> Piece:
    """A framed painting; z = 0 is its lower edge."""
    dice = style.dice
    width, height = dice.between(0.3, 0.95), dice.between(0.3, 0.75)
    art = Material(
        pattern="art", a=style.accent(), b=style.accent(), scale=dice.between(0.2, 0.7), gloss=0.1
    )
    frame = Material(pattern="wood", a=style.woods[1][0], b=style.woods[1][1], scale=0.3)
    solids = [box((0, 0.01, height / 2), (width, 0.02, height), art)]
    bar = dice.between(0.02, 0.05)
    for x in (-(width + bar) / 2, (width + bar) / 2):
        solids.append(box((x, 0, height / 2), (bar, 0.045, height + 2 * bar), frame))
    for z in (-bar / 2, height + bar / 2):
        solids.append(box((0, 0, z), (width, 0.045, bar), frame))
    return Piece(
        kind="picture", solids=tuple(solids), size=(width + 2 * bar, 0.05, height + 2 * bar)
    )
