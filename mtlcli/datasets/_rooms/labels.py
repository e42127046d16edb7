"""From what the camera's rays hit to the six tasks' label maps."""

import numpy as np

from mtlcli.datasets._rooms.solids import Item, Pack
from mtlcli.datasets._rooms.trace import Camera, Hits

IGNORED = 255
FREE_STANDING = ("bed", "table", "chair", "sofa", "cabinet", "bookshelf", "lamp")


def outward_normals(hits: Hits, camera: Camera) -> np.ndarray:
    """(H, W, 3) float64 unit normals in the camera's frame (x right, y down, z forward).

    They point away from the viewer (n . P > 0): a wall seen frontally has (0, 0, 1).
    """
    return -(hits.normal @ camera.axes.T).reshape(*camera.size, 3)


def encode_normals(normals: np.ndarray) -> np.ndarray:
    """uint8 codes c of unit vectors, n = 2c/255 - 1 up to 1/255 (0.4 degrees at most)."""
    return np.rint((normals + 1) * 127.5).astype(np.uint8)


def boundaries(instance: np.ndarray) -> np.ndarray:
    """uint8 map, 255 where a pixel's instance differs from its east, south or south-east neighbour.

    The rule of the Berkeley segmentation benchmark's `seg2bmap`, one pixel wide.
    """
    padded = np.pad(instance, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    differs = (here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:])
    return differs.astype(np.uint8) * 255


def human_parts(part: np.ndarray) -> np.ndarray:
    """The part map; all ignored where no figure is seen, as the PASCAL protocol has it."""
    return part if part.any() else np.full_like(part, IGNORED)


def salient(instance: np.ndarray, depth: np.ndarray, items: tuple[Item, ...]) -> np.ndarray:
    """uint8 map, 1 on the figure, or else on the most prominent free-standing object.

    Prominent is what covers much of the picture, near its middle and near the camera.
    """
    kinds = np.array([item.kind for item in items])
    height, width = instance.shape
    x = np.linspace(-1, 1, width)[None, :] if width > 1 else np.zeros((1, 1))
    y = np.linspace(-1, 1, height)[:, None] if height > 1 else np.zeros((1, 1))
    weight = np.exp(-1.5 * (x * x + y * y)) / depth
    score = np.bincount(instance.ravel(), weight.ravel(), minlength=len(items))
    figures = kinds == "person"
    if score[figures].any():
        return figures[instance].astype(np.uint8)
    score[~np.isin(kinds, FREE_STANDING)] = 0
    chosen = int(score.argmax())
    return ((instance == chosen) & (score[chosen] > 0)).astype(np.uint8)


def labels(
    pack: Pack, hits: Hits, camera: Camera, items: tuple[Item, ...], classes: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Every task's map in the stored form."""
    instance = pack.item[hits.solid].reshape(camera.size)
    depth = hits.depth.reshape(camera.size)
    index = np.array([classes.index(item.kind) for item in items], np.uint8)
    return {
        "semseg": index[instance],
        "depth": depth.astype(np.float32),
        "normals": encode_normals(outward_normals(hits, camera)),
        "edge": boundaries(instance),
        "human_parts": human_parts(pack.part[hits.solid].reshape(camera.size)),
        "sal": salient(instance, depth, items),
    }
