"""What a scene is made of: convex solids with a material, grouped into items, and their arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Vector = tuple[float, float, float]
PLANE, BOX, ELLIPSOID, FRUSTUM = range(4)
UPRIGHT = np.eye(3)
FLAT = ("door", "picture", "rug", "window")  # kinds that lie on the shell; only the sun notices


@dataclass(frozen=True, kw_only=True)
class Material:
    """How a surface looks."""

    pattern: str  # a function of texture.PATTERNS
    a: Vector  # first colour, sRGB in 0..1
    b: Vector = (0.0, 0.0, 0.0)  # second colour, where the pattern has two
    scale: float = 1.0  # size of the pattern's repeat in metres
    gloss: float = 0.0  # strength of the highlight
    glow: float = 0.0  # light the surface gives off itself


@dataclass(frozen=True, kw_only=True)
class Solid:
    """A convex body in its item's frame (x to the right, front towards -y, z up; metres).

    A box and an ellipsoid fill +-half along their axes. A frustum is an elliptic cylinder along
    its z axis whose radii grow linearly from (1 - taper) to (1 + taper) times half. A plane is
    the infinite one through `centre`, seen from the side its z axis points to.
    """

    shape: int
    centre: Vector
    half: Vector
    material: Material
    axes: np.ndarray = field(
        default_factory=lambda: UPRIGHT
    )  # (3, 3), columns are the solid's own axes
    taper: float = 0.0
    part: int = 0  # index of the human part


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A piece of furniture in its own frame."""

    kind: str  # class name
    solids: tuple[Solid, ...]
    size: Vector  # width, depth, height of its bounding box in metres
    light: Vector | None = None  # where it shines from, if it does


@dataclass(frozen=True, kw_only=True)
class Item:
    """One object, that is one instance: its class and where it stands."""

    kind: str  # class name
    solids: tuple[Solid, ...]
    place: Vector = (0.0, 0.0, 0.0)
    yaw: float = 0.0  # radians about the vertical


@dataclass(frozen=True, kw_only=True)
class Pack:
    """All solids of a scene in world coordinates, one row each (n solids)."""

    shape: np.ndarray  # (n,)
    centre: np.ndarray  # (n, 3)
    axes: np.ndarray  # (n, 3, 3)
    half: np.ndarray  # (n, 3)
    taper: np.ndarray  # (n,)
    part: np.ndarray  # (n,) uint8
    item: np.ndarray  # (n,) index of the item
    flat: np.ndarray  # (n,) whether the item is of a FLAT kind
    materials: tuple[Material, ...]

    def corners(self) -> np.ndarray:
        """(n, 8, 3) corners of a box around each solid, in the world."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
        reach = self.half * np.stack([1 + abs(self.taper)] * 2 + [np.ones_like(self.taper)], -1)
        return self.centre[:, None] + (signs * reach[:, None]) @ self.axes.transpose(0, 2, 1)


def turn(yaw: float) -> np.ndarray:
    """(3, 3) rotation by `yaw` radians about the vertical, counter-clockwise seen from above."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def tilt(angle: float) -> np.ndarray:
    """(3, 3) rotation about x by `angle` radians; above zero it leans to the back."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]])


def along(direction: np.ndarray) -> np.ndarray:
    """(3, 3) axes whose z points along `direction` (3,), of any length above zero."""
    z = direction / np.linalg.norm(direction)
    x = np.cross([0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [1.0, 0.0, 0.0], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], -1)


def box(centre: Vector, size: Vector, material: Material, axes: np.ndarray = UPRIGHT) -> Solid:
    """A box by its centre and its full size."""
    half = (size[0] / 2, size[1] / 2, size[2] / 2)
    return Solid(shape=BOX, centre=centre, half=half, material=material, axes=axes)


def column(
    foot: Vector, height: float, radius: float, material: Material, taper: float = 0.0
) -> Solid:
    """An upright round frustum standing on `foot`, `radius` at half height."""
    centre = (foot[0], foot[1], foot[2] + height / 2)
    half = (radius, radius, height / 2)
    return Solid(shape=FRUSTUM, centre=centre, half=half, material=material, taper=taper)


def pack(items: Sequence[Item]) -> Pack:
    """Every solid of every item, moved to its place in the world."""
    solids = [solid for item in items for solid in item.solids]
    owner = np.repeat(np.arange(len(items)), [len(item.solids) for item in items])
    turns = np.stack([turn(item.yaw) for item in items])[owner]
    places = np.array([item.place for item in items])[owner]
    centres = np.array([solid.centre for solid in solids])
    return Pack(
        shape=np.array([solid.shape for solid in solids]),
        centre=np.einsum("nij,nj->ni", turns, centres) + places,
        axes=turns @ np.stack([solid.axes for solid in solids]),
        half=np.array([solid.half for solid in solids]),
        taper=np.array([solid.taper for solid in solids]),
        part=np.array([solid.part for solid in solids], np.uint8),
        item=owner,
        flat=np.array([item.kind in FLAT for item in items])[owner],
        materials=tuple(solid.material for solid in solids),
    )
