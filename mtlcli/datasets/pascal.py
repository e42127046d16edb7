"""PASCAL-Context for five tasks: 4998 training and 5105 validation images of VOC2010.

Labels: Everingham et al., VOC 2010/2012; Mottaghi et al. (Context) and Chen et al. (Parts), CVPR
2014; saliency and normals distilled from networks by Maninis et al., "Attentive Single-Tasking of
Multiple Tasks", CVPR 2019, and published in their bundle only.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

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
from mtlcli.datasets._pascal_labels import (
    boundaries,
    keep_valid_normals,
    partition_of,
    parts_of,
    semseg_of_context,
)
from mtlcli.errors import InputError
from mtlcli.maps import _decode
from mtlcli.maps._colours import voc_palette

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
PARTS = ("background", "head", "torso", "uarm", "larm", "uleg", "lleg")
PARTITION = "partition"  # the regions of the label map, numbered from 0 in each picture
VOC = "https://thor.robots.ox.ac.uk/pascal/VOC/"

DATASET = Dataset(
    title="PASCAL-Context",
    scenes="people, animals, vehicles and furniture in everyday photographs",
    size=(512, 512),
    splits={"train": 4998, "val": 5105},
    counted={"edge": 2498},  # seism's list test_new
    tasks=("semseg", "human_parts", "sal", "normals", "edge"),
    classes={"semseg": CLASSES, "human_parts": PARTS},
    palettes={"semseg": voc_palette(len(CLASSES)), "human_parts": voc_palette(len(PARTS))},
    kinds={PARTITION: "classes"},
    options={
        # Learnt is the thinned Laplacian of the label map; published odsF is against the borders of
        # its regions as seism draws them.
        "edge": {
            "positive_weight": 0.95,
            "max_dist": 0.0075,
            "protocol": "seism",
            "gt_as": PARTITION,
        },
    },
    sources={
        "bundle": Source(
            title="the multi-task bundle of ASTMT (also ATRC's), all five tasks",
            files=(
                Remote(
                    file="PASCAL_MT.tgz",
                    urls=(
                        "gdrive:1TWZydr5_r4hKDM5Zyzrcq712Stg2cw7p",
                        "https://hkustconnect-my.sharepoint.com/:u:/g/personal/"
                        "hyeae_connect_ust_hk/ER57KyZdEdxPtgMCai7ioV0BXCmAhYzwFftCwkTiMmuM7w"
                        "?e=2Ex4ab&download=1",
                        "https://data.vision.ee.ethz.ch/kmaninis/share/MTL/PASCAL_MT.tgz",
                    ),
                ),
            ),
        ),
        "official": Source(
            title="VOC2010, VOC2012, PASCAL-Context and PASCAL-Part; no saliency, no normals",
            files=(
                Remote(
                    file="VOCtrainval_03-May-2010.tar",
                    urls=(f"{VOC}voc2010/VOCtrainval_03-May-2010.tar",),
                    sha256="1af4189cbe44323ab212bff7afbc7d0f55a267cc191eb3aac911037887e5c7d4",
                    md5="da459979d0c395079b5c75ee67908abb",
                ),
                Remote(
                    file="VOCtrainval_11-May-2012.tar",
                    urls=(
                        f"{VOC}voc2012/VOCtrainval_11-May-2012.tar",
                        "http://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",
                        "https://dataset.bj.bcebos.com/voc/VOCtrainval_11-May-2012.tar",
                    ),
                    size=1_999_639_040,
                    sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
                    md5="6cd6e144f989b92b3379bac3b3de84fd",
                ),
                Remote(
                    file="pascal-context-trainval.tar.gz",
                    urls=(
                        "https://roozbehm.info/pascal-context/trainval.tar.gz",
                        "https://cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
                    ),
                ),
                Remote(
                    file="pascal-parts-trainval.tar.gz",
                    urls=(
                        "https://roozbehm.info/pascal-parts/trainval.tar.gz",
                        "https://cs.stanford.edu/~roozbeh/pascal-parts/trainval.tar.gz",
                    ),
                    md5="2fa0a19ee9b5e43b2bee520166111120",
                ),
            ),
        ),
    },
    terms="Images come from flickr and keep its terms; cite Everingham, Mottaghi and Chen et al.",
)

# what a member is, by the folder it lies in; bundle and official archives name them differently
KINDS = {
    "image": r"JPEGImages/([^/]+)\.jpg",
    "voc": r"(?:semseg/VOC12|SegmentationClass)/([^/]+)\.png",
    "context": r"semseg/pascal-context/([^/]+)\.png",
    "labelmap": r"trainval/([^/]+)\.mat",
    "parts": r"(?:human_parts|Annotations_Part)/([^/]+)\.mat",
    "normals": r"normals_distill/([^/]+)\.png",
    "sal": r"sal_distill/([^/]+)\.png",
}
NEEDS = {  # which kinds a task is made of; all of them, for every image
    "human_parts": ("parts",),
    "sal": ("sal",),
    "normals": ("normals", "labelmap"),
    "edge": ("labelmap",),
}
LISTS = (r"ImageSets/Context/{}\.txt", r"VOC2010/ImageSets/Main/{}\.txt")
Members = Mapping[str, Mapping[str, str]]  # kind -> image id -> member


def plan(files: Files, *, geometry: str | None = None, limit: int | None = None) -> Plan:
    """Recognise bundle or official files, by their content, and say how they become samples.

    Raises:
        InputError: no known layout, split lists or members missing.
    """
    if geometry is not None:
        raise InputError("--geometry does not apply to 'pascal', whose images keep their sizes.")
    members = find_members(files.names())
    if not members["image"]:
        raise InputError(
            f"{files.label} is no known PASCAL archive: no JPEGImages/*.jpg in it; expected the "
            "bundle PASCAL_MT.tgz, or a folder with the VOC, Context and Part archives."
        )
    ids = {split: _read_list(files, split)[:limit] for split in DATASET.splits}
    bundle = any("normals_distill/" in n or "semseg/" in n for n in files.names())
    every = tuple(i for some in ids.values() for i in some)
    tasks = tuple(t for t in DATASET.tasks if t == "semseg" or members[NEEDS[t][0]])
    _require_members(files.label, members, tasks, every)
    masks = sum(i in members["voc"] for i in every)
    source = "bundle" if bundle else "official"
    return Plan(
        source=source,
        layout=source,
        geometry="original sizes",
        ids=ids,
        tasks=tasks,
        shape=None,
        read=Photographs(files=files, members=_only(members, every), ids=ids, tasks=tasks).read,
        provenance=_provenance(tasks, masks, len(every)),
        derived=() if bundle else ("semseg", "edge"),
        truths=(PARTITION,) if "edge" in tasks else (),
    )


def find_members(names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Sort member names by kind and image; of several that fit, the first counts, and of VOC's
    masks those of 2012, which are more and corrected.
    """
    patterns = {k: re.compile(rf"(?:^|.*/){p}") for k, p in KINDS.items()}
    found: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for name in sorted(names, key=lambda name: "VOC2010/SegmentationClass/" in name):
        for kind, pattern in patterns.items():
            if match := pattern.fullmatch(name):
                found[kind].setdefault(match[1], name)
    return found


def _read_list(files: Files, split: str) -> tuple[str, ...]:
    for pattern in LISTS:
        wanted = re.compile(r"(?:^|.*/)" + pattern.format(split))
        for name in filter(wanted.fullmatch, files.names()):
            return read_ids(files, name)
    raise InputError(
        f"{files.label} lacks the split list ImageSets/Context/{split}.txt (official: "
        f"VOC2010/ImageSets/Main/{split}.txt)."
    )


def _require_members(
    label: str, members: Members, tasks: tuple[str, ...], ids: tuple[str, ...]
) -> None:
    needed = {"image", *(k for t in tasks for k in NEEDS.get(t, ()))}
    for kind in sorted(needed):
        absent = [i for i in ids if i not in members[kind]]
        if absent:
            folder = KINDS[kind].replace(r"([^/]+)\.", absent[0] + ".").replace("(?:", "(")
            raise InputError(
                f"{label} lacks {folder} and {len(absent) - 1} others of {len(ids)}: the archive "
                "is incomplete, get it again."
            )
    for ident in ids:
        if not any(ident in members[k] for k in ("voc", "context", "labelmap")):
            raise InputError(f"{label} has no semantic labels for {ident}: it is incomplete.")


def _only(members: Members, ids: tuple[str, ...]) -> dict[str, dict[str, str]]:
    return {k: {i: some[i] for i in ids if i in some} for k, some in members.items()}


def _provenance(tasks: tuple[str, ...], masks: int, count: int) -> dict[str, str]:
    said = {
        "semseg": f"VOC masks for {masks} of {count} images, the rest from PASCAL-Context",
        "human_parts": "PASCAL-Part, 24 parts of persons joined to 6",
        "sal": "distilled from a network by the bundle's authors, above one half",
        "normals": "distilled from a network by the bundle's authors, on 170 Context classes",
        "edge": "learnt: thinned Laplacian of the PASCAL-Context label map; scored: its regions",
    }
    return {t: said[t] for t in tasks}


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """Samples whose images and labels are members of an archive."""

    files: Files
    members: Members
    ids: Mapping[str, tuple[str, ...]]
    tasks: tuple[str, ...]

    def read(self, split: str, index: int) -> Sample:
        """One sample in stored form; its image stays the JPEG it is."""
        ident = self.ids[split][index]
        labelmap = self._labelmap(ident)
        sample: Sample = {"image": self.files.read(self.members["image"][ident])}
        for task in self.tasks:
            label = getattr(self, f"_{task}")(ident, labelmap)
            if label is not None:
                sample[task] = label
        if "edge" in self.tasks:
            assert labelmap is not None
            sample[PARTITION] = partition_of(labelmap)
        return sample

    def _member(self, kind: str, ident: str, decode: Any) -> Any:
        return decode_member(self.files, self.members[kind][ident], decode)

    def _labelmap(self, ident: str) -> np.ndarray | None:
        if ident not in self.members["labelmap"]:
            return None
        return self._member("labelmap", ident, _decode.matlab("LabelMap"))

    def _semseg(self, ident: str, labelmap: np.ndarray | None) -> np.ndarray:
        for kind in ("voc", "context"):
            if ident in self.members[kind]:
                return self._member(kind, ident, _decode.indices)
        assert labelmap is not None
        return semseg_of_context(labelmap)

    def _human_parts(self, ident: str, labelmap: np.ndarray | None) -> np.ndarray | None:
        parts = self._member("parts", ident, parts_of)
        return parts if parts.any() else None  # nobody there: the whole map counts as unlabelled

    def _sal(self, ident: str, labelmap: np.ndarray | None) -> np.ndarray:
        return (self._member("sal", ident, _decode.indices) > 127).astype(np.uint8)

    def _normals(self, ident: str, labelmap: np.ndarray) -> np.ndarray:
        return keep_valid_normals(self._member("normals", ident, _decode.colour), labelmap)

    def _edge(self, ident: str, labelmap: np.ndarray) -> np.ndarray:
        return boundaries(labelmap)
