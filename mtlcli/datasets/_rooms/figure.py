"""A standing human figure in a random pose, of tapered limbs that carry their part's label."""

from dataclasses import replace

import numpy as np

from mtlcli.datasets._rooms.solids import ELLIPSOID, FRUSTUM, Material, Piece, Solid, along
from mtlcli.datasets._rooms.style import HAIRS, SKINS, Style, shade

PARTS = ("background", "head", "torso", "uarm", "larm", "uleg", "lleg")
HEAD, TORSO, UARM, LARM, ULEG, LLEG = range(1, 7)


def figure(style: Style) -> Piece:
    """A person of 1.55 to 1.9 m, facing -y; proportions after Drillis and Contini (1966)."""
    tall = style.dice.between(1.55, 1.9)
    shirt, trousers = _clothes(style), _clothes(style)
    skin = Material(pattern="plain", a=style.dice.one_of(SKINS))
    sleeve = shirt if style.dice.chance(0.5) else skin
    leg = trousers if style.dice.chance(0.8) else skin
    solids = [*_trunk(shirt, trousers), *_head(style, skin)]
    stride = style.dice.between(-0.3, 0.3)
    for side in (-1, 1):
        solids += _arm(style, side, shirt, sleeve, skin)
        solids += _leg(style, side, side * stride, trousers, leg)
    ground = min(solid.centre[2] - solid.half[2] for solid in solids if solid.part == LLEG)
    grown = tuple(_grow(solid, tall, ground) for solid in solids)
    return Piece(kind="person", solids=grown, size=(0.36 * tall, 0.36 * tall, tall))


def _clothes(style: Style) -> Material:
    """Cloth in a strong colour, so that the figure stands out as people do."""
    if style.dice.chance(0.3):
        a = shade((0.3, 0.34, 0.45), style.dice.between(0.4, 1.6))
        return Material(pattern="fabric", a=a, b=shade(a, 0.8), scale=0.2)
    cloth = style.cloth()
    return replace(cloth, scale=0.08) if cloth.pattern != "fabric" else cloth


def _grow(solid: Solid, tall: float, ground: float) -> Solid:
    x, y, z = solid.centre
    z -= ground
    a, b, c = solid.half
    return replace(
        solid, centre=(x * tall, y * tall, z * tall), half=(a * tall, b * tall, c * tall)
    )


def _ball(centre, half, material: Material, part: int) -> Solid:
    return Solid(
        shape=ELLIPSOID, centre=tuple(centre), half=tuple(half), material=material, part=part
    )


def _limb(start, end, radii: tuple[float, float], material: Material, part: int) -> list[Solid]:
    """A tapered limb from joint to joint with a ball at its start and at its end."""
    start, end = np.asarray(start), np.asarray(end)
    first, last = radii
    mean = (first + last) / 2
    bone = Solid(
        shape=FRUSTUM,
        centre=tuple((start + end) / 2),
        half=(mean, mean, float(np.linalg.norm(end - start)) / 2),
        material=material,
        axes=along(end - start),
        taper=(last - first) / (last + first),
        part=part,
    )
    balls = [_ball(p, (r, r, r), material, part) for p, r in ((start, first), (end, last))]
    return [bone, *balls]


def _trunk(shirt: Material, trousers: Material) -> list[Solid]:
    """Hips, belly, chest and shoulders; lengths are shares of the height."""
    belly = Solid(
        shape=FRUSTUM,
        centre=(0, 0, 0.62),
        half=(0.085, 0.058, 0.08),
        material=shirt,
        taper=0.12,
        part=TORSO,
    )
    return [
        _ball((0, 0, 0.525), (0.092, 0.065, 0.06), trousers, TORSO),
        belly,
        _ball((0, 0, 0.74), (0.105, 0.066, 0.09), shirt, TORSO),
        _ball((0, 0, 0.79), (0.115, 0.05, 0.042), shirt, TORSO),
    ]


def _head(style: Style, skin: Material) -> list[Solid]:
    hair = Material(pattern="fabric", a=style.dice.one_of(HAIRS), b=(0.05, 0.04, 0.04), scale=0.1)
    neck = _limb((0, 0.005, 0.81), (0, 0, 0.87), (0.034, 0.03), skin, TORSO)
    solids = [
        *neck,
        _ball((0, -0.004, 0.928), (0.045, 0.054, 0.068), skin, HEAD),
        _ball((0, -0.058, 0.922), (0.008, 0.012, 0.012), skin, HEAD),
        _ball((0, 0.01, 0.947), (0.049, 0.056, 0.056), hair, HEAD),
    ]
    if style.dice.chance(0.4):
        solids.append(_ball((0, 0.035, 0.885), (0.045, 0.03, 0.07), hair, HEAD))
    return solids


def _arm(style: Style, side: int, shirt: Material, sleeve: Material, skin: Material) -> list[Solid]:
    """An arm hanging, on the hip, pointing forward or raised."""
    dice = style.dice
    pose = dice.one_of(["hang", "hang", "hang", "hip", "point", "raise"])
    spread = {"hang": 0.15, "hip": 0.75, "point": 0.2, "raise": 2.4}[pose]
    spread += dice.between(-0.1, 0.2)
    swing = dice.between(0.9, 1.5) if pose == "point" else dice.between(-0.35, 0.35)
    shoulder = np.array([side * 0.115, 0, 0.795])
    down = np.array([side * np.sin(spread), 0.0, -np.cos(spread)])
    upper = np.array([down[0], down[2] * np.sin(swing), down[2] * np.cos(swing)])
    elbow = shoulder + 0.172 * upper
    if pose == "hip":
        wrist = np.array([side * 0.1, -0.05, 0.58])
    else:
        bend = dice.between(0.1, 0.7)
        ahead = np.array([0.0, -1.0, 0.35 if pose != "raise" else 0.8])
        fore = upper + bend * ahead
        wrist = elbow + 0.15 * fore / np.linalg.norm(fore)
    fore = (wrist - elbow) / np.linalg.norm(wrist - elbow)
    hand = wrist + 0.035 * fore
    return [
        *_limb(shoulder, elbow, (0.034, 0.026), shirt, UARM),
        *_limb(elbow, wrist, (0.025, 0.018), sleeve, LARM),
        _ball(hand, (0.022, 0.022, 0.032), skin, LARM),
    ]


def _leg(style: Style, side: int, swing: float, trousers: Material, leg: Material) -> list[Solid]:
    """A leg that swings forward (positive) or back by `swing` radians; the shoe stays level."""
    hip = np.array([side * 0.052, 0, 0.52])
    bend = max(0.0, -swing) * style.dice.between(0.3, 1.0)
    knee = hip + 0.245 * np.array([0, -np.sin(swing), -np.cos(swing)])
    ankle = knee + 0.235 * np.array([0, -np.sin(swing - bend), -np.cos(swing - bend)])
    shoe = Material(pattern="plain", a=shade(style.accent(), 0.45), gloss=0.3)
    foot = _ball(ankle + np.array([0, -0.035, -0.018]), (0.03, 0.07, 0.024), shoe, LLEG)
    return [
        *_limb(hip, knee, (0.058, 0.038), trousers, ULEG),
        *_limb(knee, ankle, (0.036, 0.023), leg, LLEG),
        foot,
    ]
