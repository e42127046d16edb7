"""rooms: indoor scenes rendered here, with exact labels for all six tasks; needs no download.

A scene is composed of planes, boxes, ellipsoids and frustums and seen by a pinhole camera. Depth,
normals, classes, parts and boundaries are read off the same first hit of every pixel's ray, so
they agree by construction.
"""

import numpy as np

from mtlcli.datasets._dataset import RGB, Dataset
from mtlcli.datasets._rooms.figure import PARTS
from mtlcli.datasets._rooms.layout import compose
from mtlcli.datasets._rooms.light import illuminate, photograph
from mtlcli.datasets._rooms.patterns import colour
from mtlcli.datasets._rooms.solids import pack
from mtlcli.datasets._rooms.style import Dice
from mtlcli.datasets._rooms.trace import FOCAL, Camera, labels, trace
from mtlcli.errors import InputError

CLASSES: dict[str, RGB] = {
    "wall": (174, 199, 232),
    "floor": (152, 223, 138),
    "ceiling": (210, 210, 220),
    "bed": (255, 187, 120),
    "table": (255, 152, 150),
    "chair": (188, 189, 34),
    "sofa": (140, 86, 75),
    "cabinet": (31, 119, 180),
    "bookshelf": (148, 103, 189),
    "window": (197, 176, 213),
    "door": (214, 39, 40),
    "picture": (196, 156, 148),
    "lamp": (255, 221, 51),
    "rug": (23, 190, 207),
    "person": (227, 119, 194),
}
PART_COLOURS: tuple[RGB, ...] = (
    (0, 0, 0),
    (228, 26, 28),
    (55, 126, 184),
    (255, 127, 0),
    (255, 217, 47),
    (77, 175, 74),
    (152, 78, 163),
)
STREAMS = {"train": 0, "val": 1}  # each split draws from its own random stream
SMALLEST, LARGEST = 8, 4096  # pixels along a side

DATASET = Dataset(
    title="Rendered rooms",
    scenes="rendered rooms with furniture and people",
    size=(120, 160),
    splits={"train": 400, "val": 100},
    tasks=("semseg", "depth", "normals", "edge", "human_parts", "sal"),
    classes={"semseg": tuple(CLASSES), "human_parts": PARTS},
    palettes={"semseg": tuple(CLASSES.values()), "human_parts": PART_COLOURS},
    options={"edge": {"positive_weight": 0.8, "max_dist": 0.011, "protocol": "seism"}},
)


def intrinsics(size: tuple[int, int]) -> np.ndarray:
    """(3, 3) camera matrix in pixels for an image of (height, width); pixel centres are whole."""
    height, width = size
    focal = FOCAL * width
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def render(
    index: int, split: str = "train", size: tuple[int, int] = (120, 160), seed: int = 0
) -> dict[str, np.ndarray]:
    """One image with all its labels, in stored form.

    The scene depends on (seed, split, index) alone: not on how many are rendered, and not on the
    size, which only sets how finely it is sampled (more height shows more above and below).

    Args:
        index: 0 or more; there are as many scenes as anyone asks for.
        split: train or val.
        size: height and width in pixels, any numbers of at least 8.
        seed: 0 or more.

    Returns:
        image (H, W, 3) uint8; semseg, human_parts, sal, edge (H, W) uint8, where human_parts is
        all 255 (ignored) if no figure is in sight and edge is 0 or 255; depth (H, W) float32
        metres along the optical axis; normals (H, W, 3) uint8 codes of the outward unit normals.

    Raises:
        InputError: an index, split, size or seed that makes no sense.
    """
    check(index, split, size, seed)
    dice = Dice(seed, STREAMS[split], index)
    scene = compose(dice)
    camera = Camera(eye=scene.eye, axes=scene.axes, size=(int(size[0]), int(size[1])))
    solids = pack(scene.items)
    hits = trace(solids, camera)
    light = illuminate(solids, hits, camera, scene.lights, scene.ambient)
    paint = colour(solids, hits, camera)
    image = photograph(paint, light, solids, hits, camera, scene.film, dice)
    return {"image": image, **labels(solids, hits, camera, scene.items, tuple(CLASSES))}


def check(index: int, split: str, size: tuple[int, int], seed: int) -> None:
    """Raises InputError for what `render` cannot draw."""
    if split not in STREAMS:
        raise InputError(f"rooms has no split '{split}'. Known: {', '.join(STREAMS)}.")
    if index < 0:
        raise InputError(f"rooms has no scene {index}: give an index of 0 or more.")
    if seed < 0:
        raise InputError(f"The seed {seed} is negative: give 0 or more.")
    if len(size) != 2 or not all(SMALLEST <= side <= LARGEST for side in size):
        wanted = f"height and width from {SMALLEST} to {LARGEST} pixels"
        raise InputError(f"rooms cannot be rendered at size {size}: give {wanted}.")
