"""Composes a scene: what stands and hangs in a room, its lights and the film."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mtlcli.datasets._rooms import fittings, furniture
from mtlcli.datasets._rooms.figure import figure
from mtlcli.datasets._rooms.floorplan import WALLS, FloorPlan
from mtlcli.datasets._rooms.light import Film, Light
from mtlcli.datasets._rooms.solids import Item, Piece, Vector, turn
from mtlcli.datasets._rooms.style import Dice, Style


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything the renderer needs, independent of the image's size."""

    items: tuple[Item, ...]
    lights: tuple[Light, ...]
    ambient: Vector
    eye: np.ndarray  # (3,) metres
    axes: np.ndarray  # (3, 3) rows right, down, forward
    film: Film


def compose(dice: Dice) -> Scene:
    """A furnished room, drawn from the dice."""
    plan = FloorPlan(dice)
    openings(plan)
    people = dice.chance(0.55)
    if people and dice.chance(0.7):
        plan.in_room(figure(plan.style), nearest=2.1)
        people = False
    dice.one_of([bedroom, living_room, dining_room, study])(plan)
    if people:
        plan.in_room(figure(plan.style), nearest=2.1)
    decorate(plan)
    day = 0.15 if plan.night else 0.5
    lamp = dice.between(1.6, 3.0)
    width, depth, height = plan.size
    above = (width * dice.between(0.4, 0.6), depth * dice.between(0.35, 0.6), height - 0.25)
    plan.lights.append(Light(place=above, colour=(lamp, 0.93 * lamp, 0.82 * lamp)))
    film = Film(
        exposure=dice.between(0.16, 0.34),
        warmth=dice.between(-0.06, 0.14),
        vignette=dice.between(0.0, 0.45),
        noise=dice.between(0.004, 0.022),
    )
    return Scene(
        items=tuple(plan.items),
        lights=tuple(plan.lights),
        ambient=(0.3 * day + 0.12, 0.3 * day + 0.12, 0.32 * day + 0.12),
        eye=plan.eye,
        axes=plan.axes,
        film=film,
    )


def openings(plan: FloorPlan) -> None:
    """A door and up to two windows."""
    dice = plan.dice
    if dice.chance(0.75):
        plan.against_wall(fittings.door(plan.style), clear=0.6)
    for _ in range(dice.one_of([1, 1, 2])):
        width, height = dice.between(0.8, 2.0), dice.between(0.9, 1.35)
        sill = dice.between(0.8, plan.size[2] - height - 0.25)
        plan.against_wall(fittings.window(plan.style, width, height, plan.night), bottom=sill)


def bedroom(plan: FloorPlan) -> None:
    """A bed, a cabinet beside it with a lamp, a wardrobe or shelves, perhaps a chair."""
    put_rug(plan)
    plan.against_wall(furniture.bed(plan.style))
    lamp_on(plan, furniture.cabinet(plan.style, low=True))
    some(plan, [furniture.cabinet, furniture.bookshelf, furniture.chair, furniture.desk], 3)


def living_room(plan: FloorPlan) -> None:
    """A sofa facing a low table on a rug, with shelves and a floor lamp."""
    plan.against_wall(furniture.sofa(plan.style))
    spot = plan.in_room(furniture.table(plan.style, low=True), plan.dice.one_of(WALLS))
    put_rug(plan, spot)
    if plan.dice.chance(0.5):
        plan.in_room(furniture.sofa(plan.style, seats=1))
    if plan.dice.chance(0.7):
        plan.against_wall(fittings.floor_lamp(plan.style))
    lamp_on(plan, furniture.cabinet(plan.style, low=True))
    some(plan, [furniture.bookshelf, furniture.cabinet, furniture.bookshelf], 2)


def dining_room(plan: FloorPlan) -> None:
    """A table with chairs around it under a hanging lamp, and a sideboard."""
    table = furniture.table(plan.style)
    spot = plan.in_room(table, plan.dice.one_of(WALLS))
    if spot is not None:
        around(plan, table, spot)
        put_rug(plan, spot)
        lamp = fittings.pendant(plan.style, plan.dice.between(0.5, 1.0))
        plan.add(lamp, (spot[0][0], spot[0][1], plan.size[2]), 0.0)
    lamp_on(plan, furniture.cabinet(plan.style, low=True))
    some(plan, [furniture.bookshelf, furniture.cabinet, furniture.sofa], 2)


def study(plan: FloorPlan) -> None:
    """A desk with a chair, shelves, and a sofa or a bed for guests."""
    desk = furniture.desk(plan.style)
    spot = plan.against_wall(desk)
    if spot is not None:
        (x, y, _), yaw = spot
        before = np.array([x, y, 0.0]) + turn(yaw) @ np.array([0.0, -0.65, 0.0])
        angle = yaw + np.pi + plan.dice.between(-0.7, 0.7)
        plan.put(furniture.chair(plan.style), (before[0], before[1], 0.0), angle)
        if plan.dice.chance(0.5):
            plan.add(fittings.table_lamp(plan.style), (x, y, desk.size[2]), yaw)
    put_rug(plan)
    kinds = [furniture.bookshelf, furniture.bookshelf, furniture.sofa, furniture.cabinet]
    some(plan, [*kinds, furniture.bed, fittings.floor_lamp], 4)


def some(plan: FloorPlan, builders: list[Callable[[Style], Piece]], count: int) -> None:
    """Up to `count` of the pieces, each against a wall."""
    for build in plan.dice.shuffled(builders)[:count]:
        plan.against_wall(build(plan.style))


def around(plan: FloorPlan, table: Piece, spot: tuple[Vector, float]) -> None:
    """Chairs along the sides of a table, turned to it, some pushed away a little."""
    (x, y, _), yaw = spot
    width, depth, _ = table.size
    seats = [(0.0, 1.0), (np.pi, 1.0), (np.pi / 2, 0.8), (-np.pi / 2, 0.8)]
    for angle, odds in seats:
        if not plan.dice.chance(odds):
            continue
        reach = (depth if angle in (0.0, np.pi) else width) / 2 + plan.dice.between(0.28, 0.45)
        offset = turn(yaw + angle) @ np.array([plan.dice.between(-0.1, 0.1), reach, 0.0])
        facing = yaw + angle + plan.dice.between(-0.25, 0.25)
        plan.put(furniture.chair(plan.style), (x + offset[0], y + offset[1], 0.0), facing)


def lamp_on(plan: FloorPlan, piece: Piece) -> None:
    """The piece against a wall, often with a lamp on it."""
    spot = plan.against_wall(piece)
    if spot is not None and plan.dice.chance(0.6):
        (x, y, _), yaw = spot
        plan.add(fittings.table_lamp(plan.style), (x, y, piece.size[2]), yaw)


def put_rug(plan: FloorPlan, spot: tuple[Vector, float] | None = None) -> None:
    """A rug under what stands at the spot, or before the camera; it takes no space."""
    if not plan.dice.chance(0.65):
        return
    rug = fittings.rug(plan.style, plan.dice.between(1.6, 2.6), plan.dice.between(1.2, 1.8))
    if spot is None:
        spot = (plan.size[0] / 2, plan.size[1] * plan.dice.between(0.45, 0.6), 0.0), 0.0
    place, yaw = spot
    plan.add(rug, place, yaw + plan.dice.between(-0.15, 0.15))


def decorate(plan: FloorPlan) -> None:
    """Pictures on the walls and, in some rooms, a lamp under the ceiling."""
    for _ in range(plan.dice.one_of([1, 2, 3, 4])):
        piece = fittings.picture(plan.style)
        plan.against_wall(piece, bottom=plan.dice.between(1.25, 1.55))
    hung = any(item.place[2] == plan.size[2] for item in plan.items)
    if not hung and plan.dice.chance(0.2):
        place = (plan.size[0] / 2, plan.size[1] * 0.6, plan.size[2])
        plan.add(fittings.pendant(plan.style, plan.dice.between(0.3, 0.6)), place, 0.0)
