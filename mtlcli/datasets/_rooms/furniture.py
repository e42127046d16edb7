"""Builders of what stands on the floor: beds, tables, chairs, sofas, cabinets, bookshelves.

A piece stands on z = 0, centred on x = y = 0, its front towards -y and its back at +y.
"""

from mtlcli.datasets._rooms.solids import (
    ELLIPSOID,
    FRUSTUM,
    Material,
    Piece,
    Solid,
    Vector,
    box,
    column,
    tilt,
    turn,
)
from mtlcli.datasets._rooms.style import Style, shade


def legs(size: Vector, thick: float, material: Material) -> list[Solid]:
    """Four legs of height size[2] in the corners of a rectangle of size[:2]."""
    x, y, height = size[0] / 2 - thick, size[1] / 2 - thick, size[2]
    return [
        column((sx * x, sy * y, 0.0), height, thick / 2, material, 0.2)
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]


def pillow(centre: Vector, half: Vector, material: Material, lean: float = 0.0) -> Solid:
    """A cushion, leaning back by `lean` radians."""
    return Solid(shape=ELLIPSOID, centre=centre, half=half, material=material, axes=tilt(lean))


def bed(style: Style) -> Piece:
    """A bed with headboard, mattress, cover and pillows; the headboard at the back."""
    dice, wood = style.dice, style.wood()
    width, length, top = dice.between(1.0, 1.9), 2.1, dice.between(0.42, 0.58)
    cover, sheet = style.cloth(), style.linen()
    head = dice.between(0.85, 1.25)
    solids = [
        box((0, 0, 0.17), (width, length, 0.2), wood),
        *legs((width, length, 0.1), 0.07, wood),
        box((0, length / 2 - 0.03, head / 2), (width + 0.06, 0.06, head), wood),
        box((0, -0.02, 0.27 + (top - 0.29) / 2), (width - 0.04, length - 0.1, top - 0.27), sheet),
        box((0, -0.3, top - 0.1), (width + 0.03, length - 0.65, 0.26), cover),
    ]
    count = 1 if width < 1.3 else 2
    for i in range(count):
        x = 0.0 if count == 1 else (i - 0.5) * width / 2
        solids.append(pillow((x, length / 2 - 0.3, top + 0.06), (0.33, 0.2, 0.1), style.linen()))
    if dice.chance(0.5):
        x = dice.between(-0.2, 0.2)
        solids.append(
            pillow((x, length / 2 - 0.55, top + 0.14), (0.22, 0.09, 0.18), style.cloth(), 0.5)
        )
    return Piece(kind="bed", solids=tuple(solids), size=(width + 0.06, length, head))


def table(style: Style, low: bool = False) -> Piece:
    """A square or round table; a low one stands before a sofa."""
    dice, wood = style.dice, style.wood()
    height = dice.between(0.38, 0.48) if low else dice.between(0.71, 0.77)
    if dice.chance(0.35):
        radius = dice.between(0.35, 0.55) if low else dice.between(0.48, 0.68)
        solids = [
            column((0, 0, height - 0.04), 0.04, radius, wood),
            column((0, 0, 0.03), height - 0.06, 0.05, wood, -0.3),
            column((0, 0, 0), 0.04, radius * 0.5, wood, -0.2),
        ]
        width = depth = 2 * radius
    else:
        width = dice.between(0.8, 1.15) if low else dice.between(1.1, 1.8)
        depth = dice.between(0.5, 0.65) if low else dice.between(0.7, 0.95)
        solids = [box((0, 0, height - 0.02), (width, depth, 0.04), wood)]
        solids += legs((width - 0.04, depth - 0.04, height - 0.03), 0.07, wood)
    solids += _on_top(style, width, depth, height)
    return Piece(kind="table", solids=tuple(solids), size=(width, depth, height))


def _on_top(style: Style, width: float, depth: float, height: float) -> list[Solid]:
    """A bowl, a vase or a pile of books, part of the table they stand on."""
    dice = style.dice
    x, y = dice.between(-0.25, 0.25) * width, dice.between(-0.2, 0.2) * depth
    colour = Material(pattern="plain", a=style.accent(), gloss=0.4)
    what = dice.one_of(["bowl", "vase", "books", "nothing"])
    if what == "bowl":
        return [column((x, y, height), 0.09, 0.13, colour, 0.35)]
    if what == "vase":
        body = Solid(
            shape=ELLIPSOID, centre=(x, y, height + 0.1), half=(0.08, 0.08, 0.11), material=colour
        )
        return [body, column((x, y, height + 0.17), 0.1, 0.035, colour, 0.2)]
    solids = []
    for i in range(3 if what == "books" else 0):
        cover = Material(pattern="plain", a=style.accent())
        axes = turn(dice.between(-0.4, 0.4))
        solids.append(box((x, y, height + 0.02 + 0.035 * i), (0.27, 0.2, 0.035), cover, axes))
    return solids


def desk(style: Style) -> Piece:
    """A desk with a block of drawers; of class table."""
    dice, wood = style.dice, style.wood()
    width, depth, height = dice.between(1.1, 1.6), dice.between(0.6, 0.75), 0.74
    front = Material(pattern="drawers", a=wood.a, b=shade(wood.a, 0.35), scale=3)
    solids = [
        box((0, 0, height - 0.02), (width, depth, 0.04), wood),
        box((width / 2 - 0.22, 0, 0.36), (0.4, depth - 0.04, 0.66), front),
        box((-width / 2 + 0.03, 0, 0.35), (0.04, depth - 0.04, 0.7), wood),
        *_on_top(style, width, depth, height),
    ]
    return Piece(kind="table", solids=tuple(solids), size=(width, depth, height))


def chair(style: Style) -> Piece:
    """A chair with four legs, a seat and a slightly leaning back."""
    dice = style.dice
    wood = style.wood() if dice.chance(0.7) else style.metal()
    seat = style.fabric() if dice.chance(0.6) else wood
    width, height = dice.between(0.42, 0.52), dice.between(0.43, 0.48)
    back, lean = dice.between(0.38, 0.55), dice.between(0.06, 0.2)
    solids = [
        *legs((width, width, height), 0.045, wood),
        box((0, 0, height + 0.02), (width, width, 0.06), seat),
    ]
    axes, y = tilt(lean), width / 2 - 0.02
    if dice.chance(0.5):
        centre = (0.0, y + back / 2 * lean, height + back / 2)
        solids.append(box(centre, (width, 0.04, back), seat, axes))
    else:
        for x in (-width / 2 + 0.02, width / 2 - 0.02):
            centre = (x, y + back / 2 * lean, height + back / 2)
            solids.append(box(centre, (0.04, 0.04, back), wood, axes))
        for part in (0.35, 0.65, 0.93):
            centre = (0.0, y + back * part * lean, height + back * part)
            solids.append(box(centre, (width, 0.025, 0.08), wood, axes))
    return Piece(kind="chair", solids=tuple(solids), size=(width, width + 0.1, height + back))


def sofa(style: Style, seats: int = 0) -> Piece:
    """A sofa, or an armchair with one seat (still a sofa), with arms, cushions and pillows."""
    dice, cloth = style.dice, style.fabric()
    seats = seats or dice.one_of([2, 2, 3])
    seat, arm = dice.between(0.62, 0.74), dice.between(0.14, 0.24)
    width, depth, height = seats * seat + 2 * arm, dice.between(0.85, 1.0), dice.between(0.72, 0.9)
    inner, top = seats * seat, 0.62
    solids = [
        box((0, 0, 0.2), (width, depth, 0.24), cloth),
        box((0, depth / 2 - 0.1, height / 2 + 0.05), (width, 0.2, height - 0.1), cloth),
        *legs((width, depth, 0.09), 0.07, style.wood()),
    ]
    for side in (-1, 1):
        x = side * (inner + arm) / 2
        solids.append(box((x, 0, top / 2 + 0.03), (arm, depth, top - 0.1), cloth))
        roll = along_y((x, 0, top - 0.02), depth, arm / 2 + 0.01, cloth)
        solids.append(roll)
    for i in range(seats):
        x = (i - (seats - 1) / 2) * seat
        solids.append(box((x, -0.1, 0.39), (seat - 0.015, depth - 0.22, 0.15), cloth))
        centre = (x, depth / 2 - 0.27, 0.47 + height * 0.24)
        solids.append(box(centre, (seat - 0.03, 0.14, height * 0.48), cloth, tilt(0.16)))
        if dice.chance(0.45):
            centre = (x + dice.between(-0.1, 0.1), depth / 2 - 0.42, 0.63)
            solids.append(pillow(centre, (0.2, 0.08, 0.18), style.cloth(), 0.3))
    return Piece(kind="sofa", solids=tuple(solids), size=(width, depth, height))


def along_y(centre: Vector, length: float, radius: float, material: Material) -> Solid:
    """A lying cylinder from front to back."""
    half = (radius, radius, length / 2)
    axes = tilt(1.5707963267948966)
    return Solid(shape=FRUSTUM, centre=centre, half=half, material=material, axes=axes)


def cabinet(style: Style, low: bool = False) -> Piece:
    """A wardrobe with doors, or a low chest of drawers."""
    dice, wood = style.dice, style.wood()
    width = dice.between(0.5, 1.3) if low else dice.between(0.8, 1.6)
    depth = dice.between(0.4, 0.55)
    height = dice.between(0.5, 0.95) if low else dice.between(1.6, 2.15)
    pattern = "drawers" if low else "doors"
    front = Material(pattern=pattern, a=wood.a, b=shade(wood.a, 0.3), scale=dice.one_of([2, 3]))
    solids = [
        box((0, 0, 0.03), (width - 0.08, depth - 0.08, 0.06), Material(pattern="plain", a=wood.b)),
        box((0, 0, (height + 0.03) / 2), (width, depth, height - 0.09), front),
        box((0, 0, height - 0.01), (width + 0.03, depth + 0.02, 0.03), wood),
    ]
    if low:
        solids += _on_top(style, width * 0.6, depth * 0.3, height)
    return Piece(kind="cabinet", solids=tuple(solids), size=(width + 0.03, depth + 0.02, height))


def bookshelf(style: Style) -> Piece:
    """Open shelves with rows of books."""
    dice, wood = style.dice, style.wood()
    width, depth = dice.between(0.7, 1.3), dice.between(0.26, 0.34)
    rows = dice.one_of([3, 4, 5, 6])
    pitch = dice.between(0.3, 0.36)
    height = rows * pitch + 0.03
    back = Material(pattern="plain", a=shade(wood.b, 0.7))
    solids = [
        box((0, depth / 2 - 0.01, height / 2), (width, 0.02, height), back),
        box((-width / 2 + 0.015, 0, height / 2), (0.03, depth, height), wood),
        box((width / 2 - 0.015, 0, height / 2), (0.03, depth, height), wood),
    ]
    solids += [
        box((0, 0, 0.015 + i * pitch), (width - 0.06, depth, 0.03), wood) for i in range(rows + 1)
    ]
    for i in range(rows):
        full = dice.between(0.45, 1.0) * (width - 0.08)
        x = dice.one_of([-1, 1]) * (width - 0.08 - full) / 2
        tall, deep = pitch - dice.between(0.07, 0.12), depth - 0.1
        books = Material(
            pattern="books", a=style.accent(), b=style.accent(), scale=dice.between(0.028, 0.05)
        )
        centre = (x, 0.02, 0.03 + i * pitch + tall / 2)
        solids.append(box(centre, (full, deep, tall), books))
    return Piece(kind="bookshelf", solids=tuple(solids), size=(width, depth, height))
