"""NYU Depth v2 with 40 classes: 795 training and 654 test images of indoor scenes.

Silberman et al., "Indoor Segmentation and Support Inference from RGBD Images", ECCV 2012; classes
and crop of Gupta et al., "Perceptual Organization and Recognition of Indoor Scenes", CVPR 2013.
Three bundles with mutually different content are in use, besides the publisher's own files.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mtlcli.datasets import _nyud_official
from mtlcli.datasets._dataset import (
    Dataset,
    Files,
    Plan,
    Remote,
    Sample,
    Source,
    decode_member,
    read_ids,
)
from mtlcli.errors import InputError
from mtlcli.maps import _decode
from mtlcli.maps._colours import voc_palette
from mtlcli.maps._map import IGNORE

FULL, CROPPED = (480, 640), (425, 560)
CROP = np.s_[45:470, 40:600]  # Gupta's I(46:470, 41:600, :)
GEOMETRIES = {"425x560": CROPPED, "480x640": FULL}
FARTHEST = 100.0  # metres; the sensor ends at 10

NAMES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
    "picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror",
    "floor mat", "clothes", "ceiling", "books", "refridgerator", "television", "paper", "towel",
    "shower curtain", "box", "whiteboard", "person", "night stand", "toilet", "sink", "lamp",
    "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop",
)  # fmt: skip

DATASET = Dataset(
    title="NYUD-v2",
    scenes="rooms of flats, offices and shops",
    size=CROPPED,
    splits={"train": 795, "val": 654},
    tasks=("semseg", "depth", "normals", "edge"),
    classes={"semseg": NAMES},
    palettes={"semseg": voc_palette(len(NAMES) + 1)[1:]},  # black stays free for "ignored"
    options={
        # Published odsF takes the edge map as if it were a label map ("partition"): two pixels
        # wide, then thinned, which adds about half a point.
        "edge": {
            "positive_weight": 0.8,
            "max_dist": 0.011,
            "protocol": "seism",
            "gt_as": "partition",
        },
    },
    sources={
        "atrc": Source(
            title="ATRC's bundle, 425x560 (the one DeMT, InvPT, TaskPrompter and MLoRE use)",
            files=(
                Remote(
                    file="NYUDv2.tar.gz",
                    urls=(
                        "gdrive:1rj3tHdQVYqe-Y3mpxv4EgWsiqgq3z87H",
                        "https://hkustconnect-my.sharepoint.com/:u:/g/personal/"
                        "hyeae_connect_ust_hk/EZ-2tWIDYSFKk7SCcHRimskBhgecungms4WFa_L-255GrQ"
                        "?e=6jAt4c&download=1",
                        "https://data.vision.ee.ethz.ch/brdavid/atrc/NYUDv2.tar.gz",
                    ),
                ),
            ),
        ),
        "mti": Source(
            title="MTI-Net's bundle, 480x640",
            files=(
                Remote(
                    file="NYUD_MT.tgz",
                    urls=("gdrive:14EAEMXmd3zs2hIMY63UhHPSFPDAkiTzw",),
                    size=4_215_751_725,
                    sha256="33338d895404a9144a2c6892a8b0d6d5c26b02021f945b12e36c431fb369fcb2",
                ),
            ),
        ),
        "official": Source(
            title="the publisher's files; normals and boundaries derived here",
            files=(
                Remote(
                    file="nyu_depth_v2_labeled.mat",
                    urls=(
                        "https://horatio.cs.nyu.edu/mit/silberman/nyu_depth_v2/"
                        "nyu_depth_v2_labeled.mat",
                        "zip:https://www.kaggle.com/api/v1/datasets/download/"
                        "wesleypan/nyu-depth-v2-labeled-mat",
                        "http://horatio.cs.nyu.edu/mit/silberman/nyu_depth_v2/"
                        "nyu_depth_v2_labeled.mat",
                    ),
                    size=2_972_037_809,
                    sha256="2d724b0c0ab358aa1ce5df855e5bd14a2279ab7202efe22f32a30d612dcb86aa",
                    md5="520609c519fba3ba5ac58c8fefcc3530",
                ),
                Remote(
                    file="splits.mat",
                    urls=(
                        "https://horatio.cs.nyu.edu/mit/silberman/indoor_seg_sup/splits.mat",
                        "http://horatio.cs.nyu.edu/mit/silberman/indoor_seg_sup/splits.mat",
                    ),
                    size=2_626,
                    sha256="6e081404491a8bfba2f066beaa9713ef6046f9007aa5f799f2a350506a580cee",
                    md5="08e3c3aea27130ac7c01ffd739a4535f",
                ),
            ),
        ),
    },
    terms="Cite Silberman et al., ECCV 2012. No licence is stated; do not pass converted files on.",
)

FOLDERS = {
    "image": "images",
    "semseg": "segmentation",
    "depth": "depth",
    "normals": "normals",
    "edge": "edge",
}
LAYOUTS = {  # by the endings of the members
    "atrc": {"image": ".png", "semseg": ".png", "depth": ".npy", "normals": ".png", "edge": ".png"},
    "mti": {"image": ".jpg", "semseg": ".png", "depth": ".npy", "normals": ".npy", "edge": ".npy"},
    "astmt": {
        "image": ".jpg", "semseg": ".mat", "depth": ".mat", "normals": ".jpg", "edge": ".png",
    },
}  # fmt: skip


def plan(files: Files, *, geometry: str | None = None, limit: int | None = None) -> Plan:
    """Recognise what the archive is, by its content, and say how it becomes samples.

    Raises:
        InputError: no known layout, split lists or members missing, a geometry it cannot give.
    """
    names = files.names()
    lists = [n for n in names if n.endswith("gt_sets/train.txt")]
    if lists:
        root = lists[0].removesuffix("gt_sets/train.txt")
        return _plan_bundle(files, root, _layout(files, root), geometry, limit)
    labelled = _nyud_official.find(files)
    if labelled:
        return _plan_official(files, labelled, geometry, limit)
    if any("segmentation/" in n for n in names):
        raise InputError(f"{files.label} lacks the split lists gt_sets/train.txt and val.txt.")
    raise InputError(
        f"{files.label} is no known NYUD archive: expected a folder with gt_sets/, images/, "
        "segmentation/, depth/, normals/ and edge/, or nyu_depth_v2_labeled.mat."
    )


def _layout(files: Files, root: str) -> str:
    """The layout whose member endings occur, judged by the tasks there are."""
    endings = {key: _ending(files, f"{root}{folder}/") for key, folder in FOLDERS.items()}
    for layout, expected in LAYOUTS.items():
        if endings["image"] and all(e in (None, expected[k]) for k, e in endings.items()):
            return layout
    found = ", ".join(f"{FOLDERS[k]}/*{e}" for k, e in endings.items() if e) or "no images/"
    raise InputError(f"{files.label} has {found}: none of the layouts {', '.join(LAYOUTS)}.")


def _ending(files: Files, folder: str) -> str | None:
    for name in files.names():
        if name.startswith(folder):
            return "." + name.rpartition(".")[2].lower()
    return None


def _plan_bundle(
    files: Files, root: str, layout: str, geometry: str | None, limit: int | None
) -> Plan:
    there = [k for k, f in FOLDERS.items() if _ending(files, f"{root}{f}/")]
    tasks = tuple(t for t in DATASET.tasks if t in there)
    ids = {s: read_ids(files, f"{root}gt_sets/{s}.txt")[:limit] for s in DATASET.splits}
    members = {k: f"{root}{FOLDERS[k]}/{{}}{LAYOUTS[layout][k]}" for k in ("image", *tasks)}
    _require_members(files, members, ids)
    first = decode_member(files, members["image"].format(ids["train"][0]), _decode.colour)
    shape, crop = _geometry(files.label, first.shape[:2], geometry)
    bundle = Bundle(files=files, members=members, ids=ids, crop=crop)
    return Plan(
        source=layout,
        layout=layout,
        geometry=_describe(shape, crop is not None),
        ids=ids,
        tasks=tasks,
        shape=shape,
        read=bundle.read,
        vector_normals=layout == "mti",
        provenance={t: f"{layout} bundle, {FOLDERS[t]}/" for t in tasks},
    )


def _plan_official(files: Files, name: str, geometry: str | None, limit: int | None) -> Plan:
    with _nyud_official.open_labelled(files, name) as labelled:
        count, _, width, height = labelled["images"].shape
    rows = {s: r[:limit] for s, r in _nyud_official.read_splits(files, count).items()}
    shape, crop = _geometry(files.label, (height, width), geometry or "425x560")
    return Plan(
        source="official",
        layout="official",
        geometry=_describe(shape, crop is not None),
        ids={s: tuple(f"{i + 1:04d}" for i in r) for s, r in rows.items()},
        tasks=DATASET.tasks,
        shape=shape,
        read=_nyud_official.Official(files, name, rows, crop).read,
        provenance={
            "semseg": "published labels, 894 names mapped to 40 classes",
            "depth": "published, holes filled",
            "normals": "least squares on the filled depth in 7x7 pixels, none where the raw "
            "depth is missing",
            "edge": "where label or instance changes (2x2 blocks)",
        },
        derived=("normals", "edge"),
    )


def _require_members(
    files: Files, members: Mapping[str, str], ids: Mapping[str, tuple[str, ...]]
) -> None:
    wanted = [m.format(i) for m in members.values() for some in ids.values() for i in some]
    absent = sorted(set(wanted) - set(files.names()))
    if absent:
        raise InputError(
            f"{files.label} lacks {len(absent)} of {len(wanted)} members, the first is "
            f"{absent[0]}: the archive is incomplete, get it again."
        )


def _geometry(
    label: str, found: tuple[int, int], wanted: str | None
) -> tuple[tuple[int, int], tuple[slice, slice] | None]:
    """Shape of the stored samples, and the crop that leads there (None: as they are)."""
    if wanted is not None and wanted not in GEOMETRIES:
        raise InputError(f"geometry '{wanted}' is not one of {', '.join(GEOMETRIES)}.")
    shape = GEOMETRIES[wanted] if wanted else found
    if shape == found:
        return shape, None
    if (found, shape) == (FULL, CROPPED):
        return shape, CROP
    raise InputError(f"{label} has images of {found[0]}x{found[1]}, no {wanted} can be made of it.")


def _describe(shape: tuple[int, int], cropped: bool) -> str:
    how = ", rows 45..469 and columns 40..599 of 480x640" if cropped else ""
    return f"{shape[0]}x{shape[1]}{how}"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Samples of a bundle whose every label is a member of its own."""

    files: Files
    members: Mapping[str, str]  # image or task -> member name with {} for the sample's
    ids: Mapping[str, tuple[str, ...]]
    crop: tuple[slice, slice] | None

    def read(self, split: str, index: int) -> Sample:
        """One sample in stored form."""
        ident = self.ids[split][index]
        sample = {}
        for key, pattern in self.members.items():
            decode = DECODERS[key, pattern.rpartition(".")[2]]
            array = decode_member(self.files, pattern.format(ident), decode)
            sample[key] = array if self.crop is None else array[self.crop]
        return sample


def as_classes(labels: np.ndarray) -> np.ndarray:
    """Class index of labels 0..40, whose 0 is "unlabelled" and becomes 255."""
    _decode.require_range(labels, 0, len(NAMES), "label")
    classes = labels.astype(np.uint8) - np.uint8(1)  # 0 wraps to 255
    assert IGNORE == 255
    return classes


def as_metres(depth: np.ndarray) -> np.ndarray:
    """Depth in metres, float32."""
    return _decode.require_range(depth, 0, FARTHEST, "depth in metres").astype(np.float32)


def as_codes(boundary: np.ndarray) -> np.ndarray:
    """Boundary probability 0..1 as code 0..255."""
    _decode.require_range(boundary, 0, 1, "boundary")
    return np.rint(boundary * 255).astype(np.uint8)


def as_vectors(normals: np.ndarray) -> np.ndarray:
    """Normals (H, W, 3), each component within -1..1."""
    return _decode.require_range(normals, -1.001, 1.001, "normal component")


DECODERS = {
    ("image", "png"): _decode.colour,
    ("image", "jpg"): _decode.colour,
    ("semseg", "png"): lambda data: as_classes(_decode.indices(data)),
    ("semseg", "mat"): lambda data: as_classes(_decode.matlab("segmentation")(data)),
    ("depth", "npy"): lambda data: as_metres(_decode.numbers(data, 2)),
    ("depth", "mat"): lambda data: as_metres(_decode.matlab("depth")(data)),
    ("normals", "png"): _decode.colour,
    ("normals", "jpg"): _decode.colour,
    ("normals", "npy"): lambda data: as_vectors(_decode.numbers(data, 3)),
    ("edge", "png"): _decode.grey,
    ("edge", "npy"): lambda data: as_codes(_decode.numbers(data, 2)),
}
