"""The camera's rays, their first hits in closed form, and the labels that follow from them.

A pixel's ray is kept at length one along the optical axis, so the ray parameter of a hit *is* its
z-depth. Directions are linear in the pixel's column and row: in a solid's own frame they are an
outer sum, computed only inside the rectangle that the solid's bounding box covers on the image.
"""

from dataclasses import dataclass

import numpy as np

from mtlcli.datasets._rooms.solids import BOX, ELLIPSOID, FRUSTUM, PLANE, Item, Pack

FOCAL = 0.927  # focal length over image width, that of NYU Depth v2 after its 560-pixel crop
NEAREST = 0.1  # metres; a solid that reaches nearer is tested on the whole image
IGNORED = 255
FREE_STANDING = ("bed", "table", "chair", "sofa", "cabinet", "bookshelf", "lamp")


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera at a size of image."""

    eye: np.ndarray  # (3,) world position, metres
    axes: np.ndarray  # (3, 3) rows: the camera's right, down and forward in the world
    size: tuple[int, int]  # height, width in pixels

    @property
    def focal(self) -> float:
        """Focal length in pixels, the same along both image axes."""
        return FOCAL * self.size[1]

    def slopes(self) -> tuple[np.ndarray, np.ndarray]:
        """x/z of every column (1, W) and y/z of every row (H, 1)."""
        height, width = self.size
        columns = (np.arange(width) - (width - 1) / 2) / self.focal
        rows = (np.arange(height) - (height - 1) / 2) / self.focal
        return columns[None, :], rows[:, None]

    def rays(self) -> np.ndarray:
        """(H, W, 3) directions in the world, one metre long along the optical axis."""
        x, y = self.slopes()
        right, down, forward = self.axes
        return x[..., None] * right + y[..., None] * down + forward


@dataclass(frozen=True, kw_only=True)
class Hits:
    """What every pixel sees (n = H*W pixels, row by row)."""

    depth: np.ndarray  # (n,) z-depth in metres
    solid: np.ndarray  # (n,) row of the pack
    point: np.ndarray  # (n, 3) world
    local: np.ndarray  # (n, 3) the same point in the solid's own frame
    normal: np.ndarray  # (n, 3) world, unit, towards the camera
    face: np.ndarray  # (n,) the solid's axis the surface is across; 3 on a curved surface


def crossing(
    shape: int, origin: np.ndarray, direction: list[np.ndarray], half: np.ndarray, taper: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ray parameters (enter, leave) of rays through a solid at the origin of its own frame.

    Args:
        origin: (3,) the one start point of all rays.
        direction: its three components, any one shape.

    Returns:
        two arrays of that shape; a ray misses where not enter < leave (a NaN is a miss).
    """
    if shape == PLANE:
        enter = -origin[2] / direction[2]
        return enter, np.full_like(enter, np.inf)
    if shape == BOX:
        return _slabs(origin, direction, half)
    if shape == ELLIPSOID:
        o = origin / half
        d = [direction[k] / half[k] for k in range(3)]
        square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
        return _roots(square, o[0] * d[0] + o[1] * d[1] + o[2] * d[2], o @ o - 1)
    return _frustum(origin, direction, half, taper)


def _slabs(origin: np.ndarray, direction: list[np.ndarray], half: np.ndarray):
    enter, leave = None, None
    for o, d, h in zip(origin, direction, half):
        inverse = 1 / d
        middle, reach = -o * inverse, h * abs(inverse)
        near, far = middle - reach, middle + reach
        enter = near if enter is None else np.maximum(enter, near)
        leave = far if leave is None else np.minimum(leave, far)
    return enter, leave


def _roots(a: np.ndarray, b: np.ndarray, c: np.ndarray | float):
    """Where a t^2 + 2 b t + c is negative, for a > 0; NaN where it never is."""
    root = np.sqrt(b * b - a * c)
    return (-b - root) / a, (-b + root) / a


def _frustum(origin: np.ndarray, direction: list[np.ndarray], half: np.ndarray, taper: float):
    ox, oy, oz = origin / half
    dx, dy, dz = (direction[k] / half[k] for k in range(3))
    radius, growth = 1 + taper * oz, taper * dz
    a = dx * dx + dy * dy - growth * growth
    b = ox * dx + oy * dy - radius * growth
    enter, leave = _roots(a, b, ox * ox + oy * oy - radius * radius)
    steep = a < 0  # steeper than the cone: inside from, or up to, the root in the kept nappe
    if steep.any():
        enter, leave = (
            np.where(steep, np.where(growth > 0, enter, -np.inf), enter),
            np.where(steep, np.where(growth > 0, np.inf, leave), leave),
        )
    inverse = 1 / dz
    return (
        np.maximum(enter, -oz * inverse - abs(inverse)),
        np.minimum(leave, -oz * inverse + abs(inverse)),
    )


def windows(pack: Pack, camera: Camera) -> np.ndarray:
    """(n, 4) int rectangles top, bottom, left, right (half open) that hold each solid's image."""
    height, width = camera.size
    seen = (pack.corners() - camera.eye) @ camera.axes.T
    z = seen[..., 2]
    scale = camera.focal / np.maximum(z, NEAREST)
    u = seen[..., 0] * scale + (width - 1) / 2
    v = seen[..., 1] * scale + (height - 1) / 2
    rectangles = np.stack([v.min(1), v.max(1) + 1, u.min(1), u.max(1) + 1], -1)
    rectangles[(z.min(1) < NEAREST) | (pack.shape == PLANE)] = 0, height, 0, width
    rectangles[z.max(1) <= 0] = 0
    rectangles = np.clip(rectangles, 0, [height, height, width, width])
    rectangles[:, 0::2] = np.floor(rectangles[:, 0::2])
    return np.ceil(rectangles).astype(int)


def nearest(pack: Pack, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """First hits: depth (H, W) float64, infinite where a ray escapes, and solid (H, W) int."""
    depth = np.full(camera.size, np.inf)
    solid = np.zeros(camera.size, int)
    x, y = camera.slopes()
    slopes = pack.axes.transpose(0, 2, 1) @ camera.axes.T  # (n, own axis, right|down|forward)
    origins = np.einsum("nji,nj->ni", pack.axes, camera.eye - pack.centre)
    with np.errstate(divide="ignore", invalid="ignore"):
        for n, (top, bottom, left, right) in enumerate(windows(pack, camera)):
            if top >= bottom or left >= right:
                continue
            columns, rows = x[:, left:right], y[top:bottom]
            rays = [r * columns + (d * rows + f) for r, d, f in slopes[n]]
            enter, leave = crossing(pack.shape[n], origins[n], rays, pack.half[n], pack.taper[n])
            held = depth[top:bottom, left:right]
            closer = (enter < leave) & (enter > 0) & (enter < held)
            held[closer] = enter[closer]
            solid[top:bottom, left:right][closer] = n
    return depth, solid


def trace(pack: Pack, camera: Camera) -> Hits:
    """The first hit of every pixel's ray and the surface there."""
    depth, solid = nearest(pack, camera)
    rays = camera.rays().reshape(-1, 3)
    depth, solid = depth.reshape(-1), solid.reshape(-1)
    point = camera.eye + depth[:, None] * rays
    axes = pack.axes[solid]
    local = np.einsum("nji,nj->ni", axes, point - pack.centre[solid])
    own, face = surface(pack, solid, local)
    normal = np.einsum("nij,nj->ni", axes, own)
    return Hits(depth=depth, solid=solid, point=point, local=local, normal=normal, face=face)


def surface(pack: Pack, solid: np.ndarray, local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outward unit normals (n, 3) in the solids' own frames, and the faces (n,) they belong to."""
    shape, half, taper = pack.shape[solid], pack.half[solid], pack.taper[solid]
    ratio = local / half
    face = np.argmax(abs(ratio), 1)
    face[shape == PLANE] = 2
    round_ = shape == FRUSTUM
    if round_.any():
        radius = np.hypot(ratio[round_, 0], ratio[round_, 1])
        gap = abs(radius - 1 - taper[round_] * ratio[round_, 2]) * half[round_, 0]
        cap = abs(1 - abs(ratio[round_, 2])) * half[round_, 2]
        face[round_] = np.where(cap < gap, 2, 3)
    face[shape == ELLIPSOID] = 3
    normal = np.zeros_like(local)
    rows = np.arange(len(face))
    flat = face < 3
    normal[rows[flat], face[flat]] = np.sign(local[rows[flat], face[flat]])
    normal[shape == PLANE] = 0.0, 0.0, 1.0
    curved = ~flat
    gradient = ratio[curved] / half[curved]
    slant = -taper[curved] * (1 + taper[curved] * ratio[curved, 2]) / half[curved, 2]
    gradient[:, 2] = np.where(shape[curved] == FRUSTUM, slant, gradient[:, 2])
    normal[curved] = gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    return normal, face


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
