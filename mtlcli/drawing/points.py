"""Depth as points in space: a pinhole camera undone, and written as .ply and .glb.

Points stand in the camera's frame (x right, y down, z forward, metres), as OpenCV has it; the .glb
turns them to glTF's (y up, z backward). Normals face the camera, as viewers want them: the negative
of what networks here predict.
"""

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import mtlcli
from mtlcli.data.images import to_resolution
from mtlcli.drawing.lens import Lens
from mtlcli.drawing.prediction import Maps
from mtlcli.errors import InputError, RunError
from mtlcli.files import MARK, replacing
from mtlcli.maps import depth
from mtlcli.runs.checkpoint import Trained
from mtlcli.tasks._task import Task

MOST = 1_000_000  # points
TURN = np.array([1, -1, -1], np.float32)  # camera frame -> glTF's
FULL = np.iinfo(np.uint16).max


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Coloured points in the camera's frame: x right, y down, z forward."""

    points: np.ndarray  # (N, 3) float32, metres, camera frame
    colours: np.ndarray  # (N, 3) uint8
    normals: np.ndarray | None  # (N, 3) float32, facing the camera
    camera: str = ""  # how wide it looks, and why so

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as its suffix says, .ply or .glb; what is there is replaced.

        Raises:
            InputError: another suffix.
            RunError: it cannot be written.
        """
        path = Path(path)
        write = WRITERS.get(path.suffix.lower())
        if write is None:
            raise InputError(f"{path}: points are written as {' or '.join(WRITERS)}.")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, self)
        except OSError as error:
            raise RunError(f"Cannot write {path}: {error.strerror or error}.") from error
        return path


def cloud_files(place: Path) -> list[Path]:
    """The files of a cloud at this place, whose name they get their suffixes to."""
    return [place.with_name(place.name + suffix) for suffix in WRITERS]


def depth_task(tasks: Mapping[str, Task], known: Mapping[str, str]) -> str:
    """The task whose maps are metres along the optical axis.

    Args:
        tasks: of a network, by name.
        known: task -> unit, where a dataset says another than metres.

    Raises:
        InputError: the network has none.
    """
    for name, task in tasks.items():
        if task.map.usual == depth.MAP.usual and known.get(name, depth.METRES) == depth.METRES:
            return name
    raise InputError(
        f"--points needs depth in metres, and this network predicts {', '.join(tasks)} only."
    )


def size_of(height: int, width: int) -> tuple[int, int]:
    """The picture's size, or a smaller one of at most `MOST` pixels."""
    scale = min(1.0, (MOST / (height * width)) ** 0.5)
    return max(1, int(height * scale)), max(1, int(width * scale))


def make_cloud(
    metres: np.ndarray, focal: float, colours: np.ndarray, normals: np.ndarray | None
) -> Cloud:
    """The points of all pixels that have a depth, in raster order.

    Args:
        metres: (H, W), along the optical axis.
        focal: pixels of this map.
        colours: (H, W, 3) uint8.
        normals: (3, H, W), pointing away from the camera.
    """
    height, width = metres.shape
    there = np.isfinite(metres) & (metres > 0)
    z = metres.astype(np.float32)
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / np.float32(focal) * z
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2)[:, None] / np.float32(focal) * z
    facing = None if normals is None else -normals.transpose(1, 2, 0)[there].astype(np.float32)
    return Cloud(
        points=np.stack((x, y, z), -1)[there].astype(np.float32),
        colours=colours[there],
        normals=facing,
    )


def cloud_of(trained: Trained, image: np.ndarray, maps: Maps, eye: Lens, colours: str) -> Cloud:
    """The points of a picture's maps, coloured by it or by its classes.

    Raises:
        InputError: colours of classes are wanted, and the network predicts none.
    """
    metres = maps[depth_task(trained.tasks, units_of(trained))][0]
    height, width = metres.shape
    shown = to_resolution(image, (height / image.shape[0], width / image.shape[1]))
    if colours == "classes":
        named = next((n for n in maps if trained.tasks[n].map.has_classes), None)
        if named is None:
            raise InputError("--points classes: this network predicts no classes.")
        shown = trained.tasks[named].map.draw(maps[named], trained.dataset.drawing(named))
    elif colours != "picture":
        raise InputError(f"Colours of points are of the picture or of the classes, not {colours}.")
    facing = next((n for n in maps if trained.tasks[n].map.pointed == "direction"), None)
    if not (np.isfinite(metres) & (metres > 0)).any():
        raise InputError("--points: the network sees no depth anywhere in this picture.")
    focal = eye.focal * width / image.shape[1]
    cloud = make_cloud(metres, focal, shown, maps[facing] if facing else None)
    return replace(cloud, camera=str(eye))


def units_of(trained: Trained) -> dict[str, str]:
    """Task -> unit, where the dataset says one."""
    options = trained.dataset.options
    return {task: said["unit"] for task, said in options.items() if said.get("unit")}


def write_ply(path: Path, cloud: Cloud) -> None:
    """Binary PLY, little endian."""
    fields = [(n, "<f4") for n in ("x", "y", "z")]
    fields += [(n, "<f4") for n in ("nx", "ny", "nz")] if cloud.normals is not None else []
    fields += [(n, "u1") for n in ("red", "green", "blue")]
    table = np.empty(len(cloud.points), fields)
    columns = [cloud.points, *([] if cloud.normals is None else [cloud.normals]), cloud.colours]
    values = (column for part in columns for column in part.T)
    for (name, _), column in zip(fields, values):
        table[name] = column
    kinds = {"<f4": "float", "u1": "uchar"}
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment mtl {mtlcli.__version__}, {MARK}",
        "comment metres; x right, y down, z forward from the camera; normals face it",
        *([f"comment camera: {cloud.camera}"] if cloud.camera else []),
        f"element vertex {len(table)}",
        *(f"property {kinds[kind]} {name}" for name, kind in fields),
        "end_header",
    ]
    with replacing(path) as file:
        file.write(("\n".join(header) + "\n").encode() + table.tobytes())


def write_glb(path: Path, cloud: Cloud) -> None:
    """Binary glTF 2.0: one mesh of points."""
    opaque = np.full((len(cloud.points), 1), FULL, np.uint16)
    parts = {"POSITION": (cloud.points * TURN, 5126, "VEC3")}
    if cloud.normals is not None:
        parts["NORMAL"] = (cloud.normals * TURN, 5126, "VEC3")
    colours = np.concatenate((LINEAR[cloud.colours], opaque), 1)
    parts["COLOR_0"] = (colours, 5123, "VEC4")
    accessors, views, offset = [], [], 0
    for index, (values, kind, shape) in enumerate(parts.values()):
        accessor = {"bufferView": index, "componentType": kind, "count": len(values), "type": shape}
        if kind == 5123:
            accessor["normalized"] = True
        accessors.append(accessor)
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": values.nbytes})
        offset += values.nbytes
    points = parts["POSITION"][0]
    accessors[0] |= {"min": points.min(0).tolist(), "max": points.max(0).tolist()}
    attributes = {name: index for index, name in enumerate(parts)}
    content = {
        "asset": {
            "version": "2.0",
            "generator": f"mtl {mtlcli.__version__}, {MARK}",
            "extras": {"camera": cloud.camera},
        },
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "mode": 0}]}],
        "buffers": [{"byteLength": offset}],
        "bufferViews": views,
        "accessors": accessors,
    }
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    data = b"".join(values.tobytes() for values, _, _ in parts.values())
    with replacing(path) as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(data)))
        file.write(struct.pack("<I4s", len(text), b"JSON") + text)
        file.write(struct.pack("<I4s", len(data), b"BIN\0") + data)


def linear() -> np.ndarray:
    """(256,) uint16: how much light each byte of a picture (sRGB, IEC 61966-2-1) stands for, which
    is what colours of vertices are in glTF 2.0 (3.9.2).
    """
    share = np.arange(256) / 255
    light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.asarray((light * FULL).round().astype(np.uint16))


LINEAR = linear()
WRITERS = {".ply": write_ply, ".glb": write_glb}
