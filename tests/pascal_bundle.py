"""A small PASCAL bundle of noise, with two persons in one of its three pictures."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import loadmat, savemat

from mtlcli.maps._colours import voc_palette

SHAPES = {"2008_000001": (40, 60), "2008_000002": (60, 40), "2008_000003": (50, 50)}
LISTS = {"train": ("2008_000001", "2008_000003"), "val": ("2008_000002",)}
PERSON, DOG = 15, 12

FOLDERS = (
    "JPEGImages",
    "ImageSets/Context",
    "semseg/VOC12",
    "semseg/pascal-context",
    "pascal-context/trainval",
    "human_parts",
    "normals_distill",
    "sal_distill",
)

Thing = tuple[int, dict[str, np.ndarray]]  # class_ind, masks of its parts by name


def part_file(path: Path, shape: tuple[int, int], things: list[Thing]) -> None:
    """A PASCAL-Part file."""
    objects = np.zeros(
        (1, len(things)), [(n, object) for n in ("class", "class_ind", "mask", "parts")]
    )
    for i, (index, parts) in enumerate(things):
        some = np.zeros((1, len(parts)), [("part_name", object), ("mask", object)])
        for j, (name, mask) in enumerate(parts.items()):
            some[0, j] = (name, mask.astype(np.uint8))
        everything = np.zeros(shape, np.uint8)
        objects[0, i] = ("thing", index, everything, some if parts else np.zeros((0, 0)))
    anno = np.zeros((1, 1), [("imname", object), ("objects", object)])
    anno[0, 0] = (path.stem, objects)
    savemat(path, {"anno": anno})


def box(shape: tuple[int, int], top: int, left: int) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top : top + 12, left : left + 12] = True
    return mask


def make_pascal(folder: Path) -> Path:
    """A small tree in the bundle's layout."""
    root = folder / "PASCAL_MT"
    noise = np.random.default_rng(0)
    for kind in FOLDERS:
        (root / kind).mkdir(parents=True)
    for ident, shape in SHAPES.items():
        blocks = noise.choice([9, 23, 284, 397, 5], (5, 5)).astype(np.uint16)
        labelmap = np.kron(blocks, np.ones((12, 12), np.uint16))[: shape[0], : shape[1]]
        image = noise.integers(0, 256, (*shape, 3), np.uint8)
        Image.fromarray(image).save(root / f"JPEGImages/{ident}.jpg", quality=90)
        savemat(root / f"pascal-context/trainval/{ident}.mat", {"LabelMap": labelmap})
        save(root / f"normals_distill/{ident}.png", noise.integers(0, 256, (*shape, 3), np.uint8))
        save(root / f"sal_distill/{ident}.png", noise.integers(0, 256, shape, np.uint8))
        save(root / f"semseg/pascal-context/{ident}.png", noise.integers(0, 21, shape, np.uint8))
        things = [(DOG, {"head": box(shape, 0, 0)}), (PERSON, {})]
        if ident == "2008_000001":
            things += [
                (PERSON, {"head": box(shape, 4, 4), "lfoot": box(shape, 20, 4)}),
                (PERSON, {"ruarm": box(shape, 8, 8)}),
            ]
        part_file(root / f"human_parts/{ident}.mat", shape, things)
    mask = Image.fromarray(noise.choice([0, 3, 20, 255], (40, 60)).astype(np.uint8))
    mask.putpalette(np.array(voc_palette(256), np.uint8).tobytes())
    mask.save(root / "semseg/VOC12/2008_000001.png")
    for split, ids in LISTS.items():
        (root / f"ImageSets/Context/{split}.txt").write_text("\n".join(ids))
    return root


def save(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(path)


def labelmap_of(root: Path, ident: str) -> np.ndarray:
    return loadmat(root / f"pascal-context/trainval/{ident}.mat")["LabelMap"]
