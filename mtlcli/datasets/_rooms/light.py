"""Light, shadow and film: from hits and colours to a photograph."""

from dataclasses import dataclass

import numpy as np

from mtlcli.datasets._rooms.solids import PLANE, Pack
from mtlcli.datasets._rooms.style import Dice
from mtlcli.datasets._rooms.trace import Camera, Hits, crossing

CREVICE = 0.18  # metres over which corners and contacts darken
FAINT = 0.004  # strength of a light below which nobody sees its shadows
PENUMBRA = 0.07  # metres of a solid that a ray must pass to be dark


@dataclass(frozen=True, kw_only=True)
class Light:
    """A point light; one with a gate is the sun, which shines through that window only."""

    place: tuple[float, float, float]
    colour: tuple[float, float, float]  # linear, at one metre (the sun: at any distance)
    facing: tuple[float, float, float] | None = None  # a window shines to its front only
    shadow: bool = True  # whether what stands in its way darkens
    gate: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # centre, axes (3, 3), half


@dataclass(frozen=True, kw_only=True)
class Film:
    """How the camera turns light into pixels."""

    exposure: float  # brightness the middle of the picture is brought to
    warmth: float  # white balance: above 0 is more red and less blue
    vignette: float  # loss of light in the corners
    noise: float  # deviation of the noise in the finished picture, of 1


def illuminate(
    pack: Pack,
    hits: Hits,
    camera: Camera,
    lights: tuple[Light, ...],
    ambient: tuple[float, float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Light (3, n) that falls on every pixel's surface and light (3, n) mirrored to the eye.

    Lambert's law with a softened inverse square, shadows by one ray per light, ambient light
    that is stronger from above and weaker in corners, and Blinn's highlight where there is gloss.
    """
    point, normal = (np.ascontiguousarray(x.T, np.float32) for x in (hits.point, hits.normal))
    glossy = np.array([material.gloss > 0 for material in pack.materials])[hits.solid]
    sky = (0.75 + 0.25 * normal[2]) * crevices(pack, hits)
    diffuse = np.array(ambient, np.float32)[:, None] * sky
    mirrored = np.zeros_like(diffuse)
    for light in lights:
        arrow, strength = _arriving(pack, light, point, normal)
        colour = np.array(light.colour, np.float32)[:, None]
        diffuse += colour * strength
        shiny = np.flatnonzero(glossy & (strength > 0))
        to_eye = _unit(camera.eye.astype(np.float32)[:, None] - point.take(shiny, axis=1))
        half = _unit(arrow.take(shiny, axis=1) + to_eye)
        shine = np.maximum(_dot(normal.take(shiny, axis=1), half), 0)
        mirrored[:, shiny] += colour * (_power_32(shine) * strength[shiny])
    return diffuse, mirrored


def _arriving(
    pack: Pack, light: Light, point: np.ndarray, normal: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Unit arrows (3, n) from the points to a light and its strength (n,) on their surfaces."""
    arrow = np.array(light.place, np.float32)[:, None] - point
    distance = np.sqrt(_dot(arrow, arrow))
    arrow /= distance
    strength = np.maximum(_dot(normal, arrow), 0)
    if light.facing is not None:
        strength *= np.clip(0.15 - np.array(light.facing, np.float32) @ arrow, 0, 1)
    if light.gate is None:
        strength /= 0.35 + distance * distance
    else:
        strength *= _through(light, point)
    if light.shadow:
        lit = np.flatnonzero(strength > FAINT)
        strength[lit] *= visible(pack, light, arrow.take(lit, axis=1), distance[lit])
    return arrow, strength


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.sqrt(_dot(v, v))


def _power_32(x: np.ndarray) -> np.ndarray:
    for _ in range(5):
        x = x * x
    return x


def _through(light: Light, point: np.ndarray) -> np.ndarray:
    """Whether the straight line from each point (3, n) to the sun passes the window's opening."""
    assert light.gate is not None
    centre, axes, half = light.gate
    sun = (axes.T @ (np.array(light.place) - centre)).astype(np.float32)
    local = axes.T.astype(np.float32) @ (point - centre[:, None].astype(np.float32))
    share = local[1] / (local[1] - sun[1])
    x = local[0] + share * (sun[0] - local[0])
    z = local[2] + share * (sun[2] - local[2])
    return (abs(x) < half[0]) & (abs(z) < half[2]) & (local[1] < 0)


def visible(pack: Pack, light: Light, arrow: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Share (n,) of a light's rays that arrive, softened at the shadows' rims.

    A solid dims a ray by the length it passes inside, so its rim, where that length goes to
    zero, casts a soft edge. Only rays inside the cone around a solid's bounding sphere are
    tested against it.

    Args:
        arrow: (3, n) unit vectors from the points to the light.
        distance: (n,) metres to the light.
    """
    origin = np.array(light.place)
    ray = -arrow
    passes = np.ones(len(distance), np.float32)
    dark = np.array([material.glow == 0 for material in pack.materials])
    raised = ~pack.flat if light.gate is None else np.ones_like(dark)
    casters = np.flatnonzero(dark & raised & (pack.shape != PLANE))
    near = _cones(pack, casters, origin, ray, distance)
    with np.errstate(divide="ignore", invalid="ignore"):
        for row, n in zip(near, casters):
            chosen = np.flatnonzero(row)
            if len(chosen) == 0:
                continue
            rays = list(pack.axes[n].T.astype(np.float32) @ ray.take(chosen, axis=1))
            start = (pack.axes[n].T @ (origin - pack.centre[n])).astype(np.float32)
            half = pack.half[n].astype(np.float32)
            enter, leave = crossing(pack.shape[n], start, rays, half, np.float32(pack.taper[n]))
            inside = np.minimum(leave, distance[chosen] - 0.005) - np.maximum(enter, 0)
            dimmed = inside / np.float32(min(PENUMBRA, 2 * half.min()))
            passes[chosen] *= 1 - np.fmin(np.fmax(dimmed, 0), 1)  # a miss is NaN or below 0
    return passes


def _cones(
    pack: Pack, solids: np.ndarray, origin: np.ndarray, ray: np.ndarray, distance: np.ndarray
) -> np.ndarray:
    """(m, n) whether each of n unit rays (3, n) may meet each of m solids before its end."""
    away = pack.centre[solids] - origin
    reach = np.sqrt((away**2).sum(1))
    radius = np.sqrt((pack.half[solids] ** 2).sum(1)) * (1 + abs(pack.taper[solids]))
    narrowest = np.sqrt(np.maximum(1 - (radius / np.maximum(reach, radius)) ** 2, 0))
    narrowest[reach <= radius] = -1
    near = (away / reach[:, None]).astype(np.float32) @ ray > narrowest.astype(np.float32)[:, None]
    near &= distance > (reach - radius).astype(np.float32)[:, None]
    return near


def crevices(pack: Pack, hits: Hits) -> np.ndarray:
    """(n,) ambient light left in the corners of the shell, 1 in the open."""
    left = np.ones(len(hits.depth), np.float32)
    point, normal = hits.point.astype(np.float32), hits.normal.astype(np.float32)
    for n in np.flatnonzero(pack.shape == PLANE):
        inward = pack.axes[n][:, 2].astype(np.float32)
        height = point @ inward - np.float32(pack.centre[n] @ pack.axes[n][:, 2])
        facing = np.minimum(1 - normal @ inward, 1)
        left *= 1 - 0.5 * facing * np.exp(-abs(height) / CREVICE)
    return left


def photograph(
    colour: np.ndarray,
    light: tuple[np.ndarray, np.ndarray],
    pack: Pack,
    hits: Hits,
    camera: Camera,
    film: Film,
    dice: Dice,
) -> np.ndarray:
    """(H, W, 3) uint8 sRGB picture: exposed, toned, blurred by the lens, noisy."""
    diffuse, mirrored = light
    albedo = np.ascontiguousarray((colour * colour).T)
    gloss = np.array([m.gloss for m in pack.materials], np.float32)[hits.solid]
    glow = np.array([m.glow for m in pack.materials], np.float32)[hits.solid]
    radiance = albedo * diffuse + gloss * mirrored
    key = float(np.median(radiance[1, glow == 0])) if (glow == 0).any() else 1.0
    radiance = radiance * (film.exposure / max(key, 1e-4)) + albedo * glow
    radiance *= np.array([[1 + film.warmth], [1], [1 - film.warmth]], np.float32)
    x, y = camera.slopes()
    corner = (1 - film.vignette * (x * x + y * y) / 0.5).astype(np.float32)
    picture = np.maximum(radiance.reshape(3, *camera.size) * corner, 0)
    picture = np.sqrt(1 - np.exp(-1.3 * lens(picture)))
    picture += film.noise * dice.bell(picture.shape)
    codes = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(codes.transpose(1, 2, 0))


def lens(picture: np.ndarray) -> np.ndarray:
    """The picture (3, H, W) blurred by half a pixel, as a lens does; it hides jagged edges."""
    wide = np.pad(picture, ((0, 0), (1, 1), (1, 1)), mode="edge")
    tall = 0.66 * wide[:, 1:-1] + 0.17 * (wide[:, :-2] + wide[:, 2:])
    return 0.66 * tall[..., 1:-1] + 0.17 * (tall[..., :-2] + tall[..., 2:])
