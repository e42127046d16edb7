"""What the files of a picture's maps mean, for programs: OUT/NAME.json beside them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mtlcli
from mtlcli.drawing.lens import Lens
from mtlcli.drawing.prediction import Maps, channels_last
from mtlcli.files import MARK
from mtlcli.maps._colours import plain
from mtlcli.maps._map import Options
from mtlcli.runs.checkpoint import Trained
from mtlcli.tasks._task import Task

LARGEST_STEP = np.iinfo(np.uint16).max  # of a 16-bit picture


def describe(
    trained: Trained,
    image: np.ndarray,
    maps: Maps,
    files: Sequence[Path],
    source: str = "",
    eye: Lens | None = None,
) -> dict[str, Any]:
    """Everything that the numbers of the maps do not say themselves.

    Args:
        trained: the network.
        image: RGB (H, W, 3) uint8.
        maps: of the picture, as `predict` returns them.
        files: what was written, relative to the folder.
        source: the picture's file, video or address; "" where there is none.
        eye: the camera, where points were made with it.
    """
    height, width = image.shape[:2]
    scales = trained.applied
    return {
        "program": f"mtl {mtlcli.__version__}, {MARK}",
        "picture": {"source": source or None, "width": width, "height": height},
        **({"camera": {"focal_px": eye.focal, "fov": eye.view, "because": eye.why}} if eye else {}),
        "network": {
            "run": trained.title,
            "system": trained.config.system,
            "backbone": trained.config.backbone,
            "dataset": trained.config.dataset,
            "iteration": trained.iteration,
            "trained_at": list(trained.config.size or trained.dataset.size),
            **({"takes": list(trained.takes)} if trained.takes else {}),
        },
        "files": [path.as_posix() for path in files],
        "tasks": {
            name: describe_task(trained.tasks[name], values, trained.dataset.drawing(name))
            | ({"scaled": str(scales[name])} if name in scales else {})
            for name, values in maps.items()
        },
    }


def describe_task(task: Task, values: np.ndarray, options: Options) -> dict[str, Any]:
    """Title, meaning and unit of a map, its range, and how its PNG is read; or all its classes, and
    those in sight.
    """
    its, shape = task.map, channels_last(values).shape
    said: dict[str, Any] = {"title": task.title, "holds": task.holds, "shape": list(shape)}
    if its.has_classes:
        names = list(options.get("names", ()))
        return said | {"names": names, "classes": list_classes(values, options)}
    low, high = float(values.min()), float(values.max())
    said |= {"unit": options.get("unit", its.unit), "range": [low, high]}
    if its.coded:
        said["png"] = its.coded
    if its.step:
        said["png_step"] = step = its.step(options)  # worth of one step of the 16-bit file
        if high > step * LARGEST_STEP:
            said["png_cut_at"] = step * LARGEST_STEP
    return said


def list_classes(values: np.ndarray, options: Options) -> list[Mapping[str, Any]]:
    """The classes in sight, the largest first: index, name, colour, pixels and share."""
    counts = np.bincount(values.ravel(), minlength=256)
    names, palette = options.get("names", ()), options.get("palette") or ()
    return [
        {
            "index": int(index),
            "name": names[index] if index < len(names) else "no label",
            "colour": plain(palette[index]) if index < len(palette) else None,
            "pixels": int(counts[index]),
            "share": round(float(counts[index] / values.size), 6),
        }
        for index in np.argsort(-counts, kind="stable")
        if counts[index]
    ]
