"""The colour of every visible point: where it lies on its solid, and that solid's pattern there."""

import numpy as np

from mtlcli.datasets._rooms.patterns import PATTERNS, Patch
from mtlcli.datasets._rooms.solids import BOX, ELLIPSOID, PLANE, Pack
from mtlcli.datasets._rooms.trace import Camera, Hits


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
