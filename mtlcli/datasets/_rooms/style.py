"""The random draws of a scene, and the colours and materials that a room is furnished with."""

import colorsys
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from mtlcli.datasets._rooms.solids import Material, Vector

T = TypeVar("T")


class Dice:
    """Draws from `numpy.random.default_rng(key)`.

    Only `Generator.random` is used: its doubles are the top 53 bits of the raw stream and so the
    same in every numpy, which is not promised of `choice`, `integers` or `normal`.
    """

    def __init__(self, *key: int) -> None:
        self.stream = np.random.default_rng(key)

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * float(self.stream.random())

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return float(self.stream.random()) < probability

    def one_of(self, things: Sequence[T]) -> T:
        """One of the things, all equally likely."""
        return things[int(self.stream.random() * len(things))]

    def shuffled(self, things: Sequence[T]) -> list[T]:
        """The things in random order."""
        keys = self.stream.random(len(things))
        return [things[i] for i in np.argsort(keys, kind="stable")]

    def bell(self, shape: tuple[int, ...]) -> np.ndarray:
        """float32 array of about normal numbers (mean 0, deviation 1): the sum of four uniforms."""
        total = self.stream.random((4, *shape), dtype=np.float32).sum(0)
        return (total - np.float32(2)) * np.float32(3**0.5)


WOODS: tuple[tuple[Vector, Vector], ...] = (
    ((0.80, 0.64, 0.44), (0.68, 0.50, 0.31)),  # oak
    ((0.52, 0.33, 0.20), (0.38, 0.22, 0.13)),  # walnut
    ((0.90, 0.81, 0.66), (0.81, 0.69, 0.51)),  # birch
    ((0.58, 0.34, 0.22), (0.45, 0.24, 0.15)),  # cherry
    ((0.33, 0.25, 0.21), (0.24, 0.17, 0.14)),  # wenge
    ((0.92, 0.91, 0.88), (0.87, 0.86, 0.83)),  # painted white
)
SKINS: tuple[Vector, ...] = (
    (0.94, 0.78, 0.67),
    (0.87, 0.67, 0.53),
    (0.72, 0.52, 0.38),
    (0.52, 0.35, 0.25),
    (0.36, 0.24, 0.17),
)
HAIRS: tuple[Vector, ...] = (
    (0.09, 0.07, 0.06),
    (0.25, 0.16, 0.10),
    (0.45, 0.30, 0.17),
    (0.78, 0.64, 0.40),
    (0.55, 0.53, 0.51),
)


def hsv(hue: float, saturation: float, value: float) -> Vector:
    """sRGB of a hue on the colour circle of 0..1."""
    return colorsys.hsv_to_rgb(hue % 1, saturation, value)


def shade(colour: Vector, factor: float) -> Vector:
    """The colour made darker (factor < 1) or lighter."""
    return (
        min(colour[0] * factor, 1.0),
        min(colour[1] * factor, 1.0),
        min(colour[2] * factor, 1.0),
    )


class Style:
    """Materials of one room, drawn once so that its pieces match, and draws of new ones."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.hue = dice.between(0, 1)
        self.woods = [dice.one_of(WOODS), dice.one_of(WOODS)]

    def wood(self) -> Material:
        """One of the two woods of the room."""
        a, b = self.dice.one_of(self.woods)
        return Material(pattern="wood", a=a, b=b, scale=0.5, gloss=0.12)

    def metal(self) -> Material:
        """Black, brass or chrome."""
        a = self.dice.one_of([(0.13, 0.13, 0.14), (0.68, 0.55, 0.30), (0.62, 0.63, 0.66)])
        return Material(pattern="plain", a=a, gloss=0.5)

    def accent(self) -> Vector:
        """A colour that goes with the room: near its hue or opposite to it."""
        hue = self.hue + self.dice.one_of([0.0, 0.08, -0.08, 0.5, 0.33])
        return hsv(hue, self.dice.between(0.2, 0.62), self.dice.between(0.3, 0.82))

    def muted(self) -> Vector:
        """A quiet colour for a large surface."""
        hue = self.hue + self.dice.between(-0.08, 0.08)
        return hsv(hue, self.dice.between(0.06, 0.34), self.dice.between(0.4, 0.75))

    def fabric(self) -> Material:
        """Upholstery in an accent colour or a neutral one."""
        neutral = hsv(0.09, self.dice.between(0.03, 0.25), self.dice.between(0.25, 0.9))
        a = neutral if self.dice.chance(0.4) else self.accent()
        return Material(pattern="fabric", a=a, b=shade(a, 0.72), scale=0.25)

    def cloth(self) -> Material:
        """A woven, plaid, striped or dotted cloth."""
        a = self.accent()
        b = self.dice.one_of([shade(a, 0.55), (0.93, 0.91, 0.86), self.accent()])
        pattern = self.dice.one_of(["fabric", "plaid", "stripes", "dots"])
        return Material(pattern=pattern, a=a, b=b, scale=self.dice.between(0.1, 0.3))

    def linen(self) -> Material:
        """Light bed linen."""
        a = hsv(self.hue, self.dice.between(0.0, 0.12), self.dice.between(0.85, 0.97))
        return Material(pattern="fabric", a=a, b=shade(a, 0.93), scale=0.3)

    def wall(self) -> Material:
        """Paint, or striped or dotted wallpaper."""
        a = hsv(self.hue, self.dice.between(0.02, 0.22), self.dice.between(0.66, 0.95))
        b = shade(a, self.dice.between(0.82, 0.94))
        pattern = self.dice.one_of(["plaster", "plaster", "plaster", "stripes", "dots"])
        return Material(pattern=pattern, a=a, b=b, scale=self.dice.between(0.16, 0.36))

    def feature_wall(self) -> Material:
        """The one wall that may differ from the others."""
        if self.dice.chance(0.3):
            a = hsv(self.dice.between(0.01, 0.07), 0.45, self.dice.between(0.45, 0.72))
            return Material(pattern="bricks", a=a, b=(0.74, 0.71, 0.66), scale=0.24)
        a = self.muted()
        return Material(pattern="plaster", a=a, b=shade(a, 0.9), scale=0.5)

    def floor(self) -> Material:
        """Boards, tiles, chequered tiles or carpet."""
        kind = self.dice.one_of(["planks", "planks", "planks", "tiles", "checker", "carpet"])
        if kind == "planks":
            a, b = self.dice.one_of(WOODS[:5])
            scale = self.dice.between(0.11, 0.2)
            return Material(pattern=kind, a=a, b=b, scale=scale, gloss=self.dice.between(0.1, 0.4))
        a = hsv(self.dice.between(0.05, 0.15), self.dice.between(0.02, 0.3), 0.82)
        if kind == "carpet":
            a = self.muted()
            return Material(pattern=kind, a=a, b=shade(a, 0.75), scale=0.5)
        b = shade(a, 0.72) if kind == "tiles" else shade(self.accent(), 0.5)
        scale = self.dice.between(0.28, 0.5)
        return Material(pattern=kind, a=a, b=b, scale=scale, gloss=0.35)
