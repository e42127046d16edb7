"""The room while it is being furnished: its shell, its camera, and which space is taken."""

import numpy as np

from mtlcli.datasets._rooms.light import Light
from mtlcli.datasets._rooms.solids import PLANE, Item, Material, Piece, Solid, Vector, turn
from mtlcli.datasets._rooms.style import Dice, Style, hsv, shade

# A wall is named by the yaw that turns a piece's back (+y) to it.
NORTH, EAST, WEST = 0.0, -np.pi / 2, np.pi / 2
WALLS = (NORTH, EAST, WEST)
TRIES = 12


class FloorPlan:
    """The room while it is being furnished: what is in it and which space is taken."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.style = Style(dice)
        self.night = dice.chance(0.2)
        self.size = (dice.between(3.2, 5.8), dice.between(3.6, 6.4), dice.between(2.4, 2.9))
        self.eye, self.axes = self._camera()
        self.items = list(self._shell())
        self.lights: list[Light] = []
        self.taken: list[tuple[np.ndarray, np.ndarray]] = []
        ahead = self.eye + 0.75 * np.array([self.axes[2][0], self.axes[2][1], 0.0])
        for middle, reach in ((self.eye, 0.5), (ahead, 0.45)):
            pillar = np.array([reach, reach, 9.0])
            self.taken.append((middle - pillar, middle + pillar))

    def _camera(self) -> tuple[np.ndarray, np.ndarray]:
        """A hand-held camera near the south wall, looking into the room."""
        dice, (width, depth, _) = self.dice, self.size
        eye = np.array(
            [width * dice.between(0.1, 0.9), dice.between(0.15, 0.7), dice.between(1.2, 1.7)]
        )
        target = np.array([width * dice.between(0.25, 0.75), depth * dice.between(0.6, 1.0)])
        yaw = np.arctan2(target[0] - eye[0], target[1] - eye[1])
        pitch, roll = dice.between(-0.03, 0.34), dice.between(-0.06, 0.06)
        forward = np.array(
            [np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), -np.sin(pitch)]
        )
        level = np.array([np.cos(yaw), -np.sin(yaw), 0.0])
        right = np.cos(roll) * level + np.sin(roll) * np.cross(forward, level)
        return eye, np.stack([right, np.cross(forward, right), forward])

    def _shell(self) -> list[Item]:
        """Floor, ceiling and four walls, each an item of its own."""
        width, depth, height = self.size
        style = self.style
        paint, other = style.wall(), style.feature_wall() if self.dice.chance(0.35) else None
        white = hsv(self.style.hue, 0.03, self.dice.between(0.88, 0.97))
        top = Material(pattern="plaster", a=white, b=shade(white, 0.95))
        planes = [
            ("floor", (width / 2, depth / 2, 0), (1, 0, 0), (0, 1, 0), style.floor()),
            ("ceiling", (width / 2, depth / 2, height), (1, 0, 0), (0, -1, 0), top),
            ("wall", (width / 2, depth, 0), (1, 0, 0), (0, 0, 1), other or paint),
            ("wall", (width / 2, 0, 0), (-1, 0, 0), (0, 0, 1), paint),
            ("wall", (width, depth / 2, 0), (0, -1, 0), (0, 0, 1), paint),
            ("wall", (0, depth / 2, 0), (0, 1, 0), (0, 0, 1), paint),
        ]
        return [_plane(*plane) for plane in planes]

    def free(self, low: np.ndarray, high: np.ndarray) -> bool:
        """Whether the box from low to high (3,) lies in the room and touches nothing."""
        inside = (low >= -0.06).all() and (high <= np.array(self.size) + 0.06).all()
        return bool(inside) and not any((low < b).all() and (high > a).all() for a, b in self.taken)

    def put(self, piece: Piece, place: Vector, yaw: float, clear: float = 0.0) -> bool:
        """Adds the piece if its space, with `clear` metres before it, is free; tells whether."""
        middle = np.array(place) + turn(yaw) @ np.array([0.0, -clear / 2, piece.size[2] / 2])
        half = abs(turn(yaw)) @ (
            np.array([piece.size[0], piece.size[1] + clear, piece.size[2]]) / 2
        )
        if not self.free(middle - half, middle + half):
            return False
        self.taken.append((middle - half, middle + half))
        self.add(piece, place, yaw)
        return True

    def add(self, piece: Piece, place: Vector, yaw: float) -> None:
        """Adds the piece, taking no space, and its light."""
        self.items.append(Item(kind=piece.kind, solids=piece.solids, place=place, yaw=yaw))
        if piece.light is not None:
            self.lights += self._light(piece, np.array(place), yaw)

    def against_wall(
        self, piece: Piece, bottom: float = 0.0, clear: float = 0.0
    ) -> tuple[Vector, float] | None:
        """Puts the piece with its back to some wall; tells place and yaw, None if it never fits."""
        for _ in range(TRIES):
            yaw = self.dice.one_of(WALLS)
            wall = self.size[0] if yaw == NORTH else self.size[1]
            along = self.dice.between(0, 1) * (wall - piece.size[0]) + piece.size[0] / 2
            off = piece.size[1] / 2 + 0.01
            if yaw == NORTH:
                place = (along, self.size[1] - off, bottom)
            else:
                place = (self.size[0] - off if yaw == EAST else off, along, bottom)
            if self.put(piece, place, yaw, clear):
                return place, yaw
        return None

    def in_room(
        self, piece: Piece, yaw: float | None = None, nearest: float = 1.6
    ) -> tuple[Vector, float] | None:
        """Puts the piece somewhere in front of the camera, `nearest` metres away or more."""
        for _ in range(TRIES):
            distance, side = self.dice.between(nearest, 4.3), self.dice.between(-0.42, 0.42)
            way = self.axes[2][:2] / np.linalg.norm(self.axes[2][:2])
            spot = self.eye[:2] + distance * (way + side * np.array([way[1], -way[0]]))
            turned = self.dice.between(-np.pi, np.pi) if yaw is None else yaw
            place = (float(spot[0]), float(spot[1]), 0.0)
            if self.put(piece, place, turned):
                return place, turned
        return None

    def _light(self, piece: Piece, place: np.ndarray, yaw: float) -> list[Light]:
        """The light of a lamp, or of a window with, on some days, the sun behind it."""
        spot = place + turn(yaw) @ np.array(piece.light)
        if piece.kind == "lamp":
            power = self.dice.between(0.5, 1.4) * (2.0 if self.night else 0.7)
            warm = (power, 0.82 * power, 0.58 * power)
            return [Light(place=tuple(spot), colour=warm, shadow=False)]
        if self.night:
            return []
        power = self.dice.between(2.5, 4.5)
        front = turn(yaw) @ np.array([0.0, -1.0, 0.0])
        sky = Light(
            place=tuple(spot), colour=(0.88 * power, 0.95 * power, power), facing=tuple(front)
        )
        if not self.dice.chance(0.45):
            return [sky]
        beam = np.array([self.dice.between(-0.8, 0.8), 1.0, self.dice.between(0.5, 1.1)])
        half = np.array([piece.size[0] / 2 - 0.06, 0.1, piece.size[2] / 2 - 0.06])
        centre = place + np.array([0.0, 0.0, half[2]])
        sun = centre + 40 * turn(yaw) @ beam
        return [
            sky,
            Light(place=tuple(sun), colour=(3.2, 2.9, 2.4), gate=(centre, turn(yaw), half)),
        ]


def _plane(kind: str, centre: Vector, x: Vector, y: Vector, material: Material) -> Item:
    axes = np.stack([np.array(x, float), np.array(y, float), np.cross(x, y)], -1)
    solid = Solid(shape=PLANE, centre=centre, half=(1, 1, 1), material=material, axes=axes)
    return Item(kind=kind, solids=(solid,))
