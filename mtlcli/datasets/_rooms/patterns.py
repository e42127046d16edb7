"""Procedural patterns: sRGB colours of surface points, averaged over what a pixel covers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mtlcli.datasets._rooms.solids import BOX, ELLIPSOID, PLANE, Pack
from mtlcli.datasets._rooms.trace import Camera, Hits

TABLE = 256  # entries per side of the noise tables


@dataclass(frozen=True, kw_only=True)
class Patch:
    """Surface points of one pattern (n points)."""

    u: np.ndarray  # (n,) metres across the surface
    v: np.ndarray  # (n,) metres up the surface
    s: np.ndarray  # (n,) u over the solid's half size
    t: np.ndarray  # (n,) v over the solid's half size
    a: np.ndarray  # (n, 3) first colour
    b: np.ndarray  # (n, 3) second colour
    scale: np.ndarray  # (n,) metres
    pixel: np.ndarray  # (n,) metres that one pixel covers on the surface
    front: np.ndarray  # (n,) whether the point lies on a box's front


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three flat noise tables: cloudy and grainy of deviation 0.5, and white in [0, 1)."""
    white = np.random.default_rng(20).random((TABLE, TABLE))
    spectrum = np.fft.rfft2(white - 0.5)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(TABLE), np.fft.rfftfreq(TABLE), indexing="ij"))
    frequency[0, 0] = np.inf
    tables = []
    for slope in (1.2, 0.4):
        table = np.fft.irfft2(spectrum / frequency**slope, (TABLE, TABLE))
        tables.append(np.clip(0.5 * table / table.std(), -1, 1).astype(np.float32).ravel())
    return tables[0], tables[1], white.astype(np.float32).ravel()


def _cells(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    column = np.floor(u * TABLE).astype(np.int32) & (TABLE - 1)
    row = np.floor(v * TABLE).astype(np.int32) & (TABLE - 1)
    return row * TABLE + column


def noise(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Cloudy noise in [-1, 1] that repeats every unit along u and v."""
    return _tables()[0][_cells(u, v)]


def grain(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Grainy noise in [-1, 1] that repeats every unit along u and v."""
    return _tables()[1][_cells(u, v)]


def lot(i: np.ndarray, j: np.ndarray | int = 0) -> np.ndarray:
    """A fixed random number in [0, 1) for every pair of whole numbers."""
    cell = i.astype(np.int32) * 73 + np.asarray(j).astype(np.int32) * 179
    return _tables()[2][cell & (TABLE * TABLE - 1)]


def mix(a: np.ndarray, b: np.ndarray | tuple, weight: np.ndarray) -> np.ndarray:
    """a where weight is 0, b where it is 1."""
    return a + (np.asarray(b, np.float32) - a) * weight[:, None]


def square(x: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """A wave that is 0 and 1 in turn, changing at whole x over a width of `soft`."""
    ramp = abs((x + 0.5) % 2 - 1)
    return np.clip((ramp - 0.5) / np.maximum(soft, 1e-3) + 0.5, 0, 1)


def line(x: np.ndarray, width: np.ndarray | float, soft: np.ndarray) -> np.ndarray:
    """1 on lines of a width at whole x, 0 between them, averaged over `soft`."""
    soft = np.maximum(soft, 1e-3)
    distance = abs(x - np.rint(x))
    return np.clip((width - distance) / soft + 0.5, 0, 1) * np.minimum(1, 2 * width / soft)


def plain(p: Patch) -> np.ndarray:
    """One colour, hardly uneven."""
    return p.a * (1 + 0.05 * noise(p.u, p.v))[:, None]


def plaster(p: Patch) -> np.ndarray:
    """Painted plaster, a little cloudy and grainy."""
    return (
        p.a * (1 + 0.05 * noise(p.u * 0.2, p.v * 0.2) + 0.03 * grain(p.u * 0.8, p.v * 0.8))[:, None]
    )


def fabric(p: Patch) -> np.ndarray:
    """Woven cloth, mottled."""
    return mix(
        p.a, p.b, 0.4 + 0.35 * grain(p.u * 1.3, p.v * 1.3) + 0.3 * noise(p.u * 0.4, p.v * 0.4)
    )


def carpet(p: Patch) -> np.ndarray:
    """A carpet's pile."""
    return mix(
        p.a, p.b, 0.5 + 0.7 * grain(p.u * 0.7, p.v * 0.7) + 0.4 * noise(p.u * 0.2, p.v * 0.2)
    )


def wood(p: Patch) -> np.ndarray:
    """Wood with its grain along u."""
    return mix(p.a, p.b, 0.5 + 0.8 * noise(p.u * 0.25, p.v * 3))


def planks(p: Patch) -> np.ndarray:
    """Floor boards along u: every board of its own tone, with seams."""
    row = np.floor(p.v / p.scale)
    length = p.u / (8 * p.scale) + 5 * lot(row)
    board = lot(row, np.floor(length))
    fibre = noise(p.u * 0.2 + board, p.v * 2 + board)
    colour = mix(p.a, p.b, np.clip(0.2 + 0.6 * board + 0.4 * fibre, 0, 1))
    soft = p.pixel / p.scale
    seam = np.maximum(line(p.v / p.scale, 0.02, soft), line(length, 0.003, soft / 8))
    return colour * (1 - 0.6 * seam)[:, None]


def checker(p: Patch) -> np.ndarray:
    """Squares of two colours."""
    soft = p.pixel / p.scale
    x, y = square(p.u / p.scale, soft), square(p.v / p.scale, soft)
    tone = 1 + 0.05 * noise(p.u, p.v)
    return mix(p.a, p.b, x * y + (1 - x) * (1 - y)) * tone[:, None]


def tiles(p: Patch) -> np.ndarray:
    """Square tiles in grout of the second colour."""
    x, y, soft = p.u / p.scale, p.v / p.scale, p.pixel / p.scale
    tone = 0.92 + 0.12 * lot(np.floor(x), np.floor(y)) + 0.05 * noise(p.u * 0.7, p.v * 0.7)
    return mix(p.a * tone[:, None], p.b, np.maximum(line(x, 0.015, soft), line(y, 0.015, soft)))


def bricks(p: Patch) -> np.ndarray:
    """Staggered bricks in mortar of the second colour."""
    y = p.v / (p.scale / 3)
    x = p.u / p.scale + 0.5 * (np.floor(y) % 2)
    tone = 0.75 + 0.4 * lot(np.floor(x), np.floor(y)) + 0.15 * noise(p.u * 2, p.v * 2)
    soft = p.pixel / p.scale
    mortar = np.maximum(line(x, 0.025, soft), line(y, 0.075, 3 * soft))
    return mix(p.a * tone[:, None], p.b, mortar)


def stripes(p: Patch) -> np.ndarray:
    """Stripes of two colours along v."""
    return mix(p.a, p.b, square(2 * p.u / p.scale, 2 * p.pixel / p.scale))


def plaid(p: Patch) -> np.ndarray:
    """Crossed stripes."""
    soft = 2 * p.pixel / p.scale
    x, y = square(2 * p.u / p.scale, soft), square(2 * p.v / p.scale, soft)
    return mix(p.a, p.b, 0.5 * (x + y))


def dots(p: Patch) -> np.ndarray:
    """Dots of the second colour in staggered rows."""
    x, y = p.u / p.scale, p.v / p.scale
    x = x + 0.5 * (np.floor(y) % 2)
    distance = np.hypot(x % 1 - 0.5, y % 1 - 0.5)
    soft = np.maximum(p.pixel / p.scale, 0.02)
    return mix(p.a, p.b, np.clip((0.22 - distance) / soft + 0.5, 0, 1) * np.minimum(1, 0.5 / soft))


def rings(p: Patch) -> np.ndarray:
    """Rings around the centre."""
    return mix(p.a, p.b, square(np.hypot(p.u, p.v) / p.scale, p.pixel / p.scale)) * (
        1 + 0.15 * grain(p.u, p.v)[:, None]
    )


def rug(p: Patch) -> np.ndarray:
    """Diamonds inside a border."""
    edge = np.maximum(abs(p.s), abs(p.t))
    border = (edge > 0.86) & (edge < 0.94)
    diamonds = square((p.u + p.v) / p.scale, p.pixel / p.scale) * square(
        (p.u - p.v) / p.scale, p.pixel / p.scale
    )
    weight = np.where(edge < 0.8, diamonds, border)
    return mix(p.a, p.b, weight) * (1 + 0.2 * grain(p.u, p.v))[:, None]


def doors(p: Patch) -> np.ndarray:
    """`scale` cabinet doors side by side, with panels and knobs, on a box's front."""
    x = (p.s + 1) / 2 * p.scale
    seam = line(x, 0.008, 0.01 * np.ones_like(x))
    knob = (abs(abs(x - np.rint(x)) - 0.1) < 0.025) & (abs(p.t) < 0.05) & (np.rint(x) % 2 == 1)
    panel = (abs(x % 1 - 0.5) < 0.38) & (abs(p.t) < 0.9)
    frame = line(abs(x % 1 - 0.5) / 0.38, 0.03, 0.05 * np.ones_like(x)) * (abs(p.t) < 0.9)
    lines = np.maximum(np.maximum(seam, knob), 0.35 * frame) * p.front
    return mix(wood(_darker(p)) * (1 - 0.06 * panel * p.front)[:, None], p.b, lines)


def drawers(p: Patch) -> np.ndarray:
    """`scale` drawers above each other, with handles, on a box's front."""
    y = (p.t + 1) / 2 * p.scale
    seam = line(y, 0.02, 0.03 * np.ones_like(y))
    handle = (abs(p.s) < 0.18) & (abs(y % 1 - 0.62) < 0.045)
    return mix(wood(_darker(p)), p.b, np.maximum(seam, handle) * p.front)


def _darker(p: Patch) -> Patch:
    """The same points with a quiet grain instead of the second colour."""
    return Patch(**{**vars(p), "b": p.a * np.float32(0.85)})


def panels(p: Patch) -> np.ndarray:
    """A door's leaf of `scale` rows of two panels."""
    x, y = abs(p.s), (p.t + 1) / 2 * p.scale
    inset = np.maximum(abs(x - 0.42) / 0.3, abs(y % 1 - 0.5) / 0.38)
    ring = np.clip(1 - abs(inset - 1) / 0.12, 0, 1) * p.front
    return mix(p.a, p.b, ring) * (1 + 0.03 * noise(p.u, p.v))[:, None]


def books(p: Patch) -> np.ndarray:
    """Spines of books of many colours and heights."""
    column = np.floor(p.u / p.scale)
    hue = lot(column, 1)
    wheel = 0.5 + 0.4 * np.cos(6.2832 * (hue[:, None] + np.array([0, 0.33, 0.67], np.float32)))
    grey = lot(column, 2)[:, None]
    own = wheel * 0.55 + 0.4 * grey * (1 - wheel * 0.3)
    colour = np.where(lot(column, 3)[:, None] < 0.3, p.a, np.where(grey > 0.8, p.b, own))
    band = (abs(p.t - 0.4 + lot(column, 4)) < 0.06) & (lot(column, 5) > 0.4)
    colour = mix(colour, (0.85, 0.78, 0.6), 0.7 * band)
    gap = line(p.u / p.scale, 0.06, p.pixel / p.scale)
    above = p.t > 1 - 0.55 * lot(column, 6)
    return colour * (1 - 0.75 * np.maximum(gap, above))[:, None]


def view(p: Patch) -> np.ndarray:
    """What is seen through a window: sky, clouds, hills and trees."""
    ridge = -0.25 + 0.35 * noise(p.s * 0.15 * p.scale, p.scale)
    near = -0.55 + 0.2 * noise(p.s * 0.3 * p.scale, p.scale + 0.4)
    cloud = np.clip(noise(p.s * 0.12 * p.scale, p.t * 0.3) * 1.2, 0, 1)
    sky = mix(p.a * (0.82 + 0.18 * (1 - p.t))[:, None], (1.0, 1.0, 1.0), 0.5 * cloud * p.a[:, 2])
    colour = np.where((p.t < ridge)[:, None], mix(p.b, p.a, np.full_like(p.t, 0.35)), sky)
    return np.where((p.t < near)[:, None], p.b * (1 + 0.3 * noise(p.u, p.v))[:, None], colour)


def art(p: Patch) -> np.ndarray:
    """An abstract painting, some with a mat around it."""
    field = noise(p.s * 0.11 * p.scale + p.scale, p.t * 0.11 * p.scale)
    other = noise(p.s * 0.09 + p.scale, p.t * 0.13 + 0.5)
    colour = mix(p.a, p.b, np.clip(0.5 + 4 * field, 0, 1))
    colour = mix(colour, (0.95, 0.9, 0.75), 0.8 * (other > 0.35))
    disc = np.hypot(p.s - p.scale + 0.3, p.t - 0.2) < p.scale * 0.6
    colour = mix(colour, 1 - p.a[:, ::-1], 0.7 * disc)
    mat = (abs(p.s) > 0.8) | (abs(p.t) > 0.78)
    return mix(colour, (0.93, 0.92, 0.88), mat * (p.scale < 0.45))


PATTERNS: dict[str, Callable[[Patch], np.ndarray]] = {
    pattern.__name__: pattern
    for pattern in (
        plain, plaster, fabric, carpet, wood, planks, checker, tiles, bricks, stripes, plaid,
        dots, rings, rug, doors, drawers, panels, books, view, art,
    )
}  # fmt: skip


def colour(pack: Pack, hits: Hits, camera: Camera) -> np.ndarray:
    """(n, 3) float32 sRGB reflectance in 0..1 of every pixel's surface."""
    names = sorted({material.pattern for material in pack.materials})
    own = np.array([names.index(material.pattern) for material in pack.materials])[hits.solid]
    across = _coordinates(pack, hits, camera)
    a, b = (np.array([getattr(m, key) for m in pack.materials], np.float32) for key in "ab")
    scale = np.array([material.scale for material in pack.materials], np.float32)
    result = np.empty((len(own), 3), np.float32)
    for k, name in enumerate(names):
        chosen = np.flatnonzero(own == k)
        if len(chosen):
            solid = hits.solid[chosen]
            place = {key: value[chosen] for key, value in across.items()}
            patch = Patch(a=a[solid], b=b[solid], scale=scale[solid], **place)
            result[chosen] = PATTERNS[name](patch)
    return np.clip(result, 0, 1)


def _coordinates(pack: Pack, hits: Hits, camera: Camera) -> dict[str, np.ndarray]:
    """The fields of a Patch that say where a point lies, for all pixels.

    A box and a plane are measured along the two axes of the face that is hit, a frustum's side
    around its axis and along it, an ellipsoid along its x and z.
    """
    solid, face, shape = hits.solid, hits.face, pack.shape[hits.solid]
    x, y, z = hits.local.T
    lying = (face == 2) | (shape == PLANE)
    u, v = np.where(face == 0, y, x), np.where(lying, y, z)
    half = pack.half[solid].T
    width, height = np.where(face == 0, half[1], half[0]), np.where(lying, half[1], half[2])
    side = np.flatnonzero((face == 3) & (shape != ELLIPSOID))
    u[side] = np.arctan2(y[side], x[side]) * half[0, side]
    slant = np.einsum("ni,ni->n", hits.normal, camera.eye - hits.point) / hits.depth
    pixel = hits.depth / camera.focal / np.clip(slant, 0.1, 1)
    fields = {"u": u, "v": v, "s": u / width, "t": v / height, "pixel": pixel}
    front = (shape == BOX) & (face == 1) & (y < 0)
    return {**{key: value.astype(np.float32) for key, value in fields.items()}, "front": front}
