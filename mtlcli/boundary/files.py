"""Reading one prediction or one ground truth from its file; a bad file is one clear line."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlcli.boundary.counts import MOST_BOUNDARY, GtAs, quantise
from mtlcli.errors import InputError
from mtlcli.files import PNG, chunks_of_png

PREDICTION_SUFFIXES = (".png", ".npy", ".jpg", ".jpeg", ".mat")
TRUTH_SUFFIXES = (".png", ".mat")
BSDS_FIELDS = {"boundary": "Boundaries", "partition": "Segmentation"}


def read_prediction(path: Path) -> NDArray[np.uint8]:
    """(H, W) uint8 from an 8-bit greyscale PNG or JPEG, or from an array in a .npy or .mat: of
    probabilities in [0, 1], or of uint8, 255 times these. Axes of length 1 are left out.

    Raises:
        InputError: unreadable, not 8-bit greyscale, not two-dimensional, NaN, outside [0, 1].
    """
    suffix = path.suffix.lower()
    if suffix in (".png", ".jpg", ".jpeg"):
        kind = "PNG" if suffix == ".png" else "JPEG"
        levels, mode = _read_picture(path, kind)
        if mode == "RGB" and kind == "JPEG" and (levels == levels[..., :1]).all():
            return np.ascontiguousarray(levels[..., 0])  # grey, saved in colour
        if mode != "L":
            raise InputError(
                f"{path}: the {kind} is not 8-bit greyscale (Pillow mode {mode}); "
                "save one channel of 255 * probability"
            )
        return levels
    values = _read_array(path) if suffix == ".npy" else _only_map(path)
    found = values.squeeze() if values.ndim > 2 else values
    if found.ndim != 2 or not (found.dtype.kind == "f" or found.dtype in (np.uint8, bool)):
        raise InputError(
            f"{path}: holds {values.dtype} of shape {values.shape}; "
            "a two-dimensional array of probabilities (float), or of uint8, is expected"
        )
    if found.dtype == np.uint8:
        return np.ascontiguousarray(found)
    try:
        return quantise(found.astype(np.float32) if found.dtype == bool else found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read_array(path: Path) -> NDArray[Any]:
    with _reading(path, ".npy"):
        found = np.load(path, allow_pickle=False, mmap_mode="r")  # no more memory than is there
    if not isinstance(found, np.ndarray):
        raise InputError(f"{path}: is an archive of arrays; save one as .npy")
    return np.array(found)


def _only_map(path: Path) -> NDArray[Any]:
    """The one array of a .mat, whatever its name."""
    content = _load_mat(path)
    maps = {name: np.asarray(value) for name, value in content.items()}
    maps = {name: value for name, value in maps.items() if value.squeeze().ndim == 2}
    if len(maps) != 1:
        raise InputError(
            f"{path}: holds {len(maps)} maps ({', '.join(maps) or 'none'}); one is expected"
        )
    return next(iter(maps.values()))


def read_truth(path: Path, gt_as: GtAs) -> list[NDArray[Any]]:
    """The (H, W) ground truths of one image, one per annotator.

    A PNG or the `LabelMap` of a PASCAL-Context .mat is one; the `groundTruth` of a BSDS .mat has
    one per annotator, its Boundaries (gt_as "boundary") or its Segmentation ("partition").

    Raises:
        InputError: unreadable, no expected key, or a label map taken as boundaries.
    """
    if path.suffix.lower() == ".mat":
        return _read_mat(path, gt_as)
    truth, _ = _read_picture(path, "PNG", by_colour=gt_as == "boundary")
    if truth.ndim != 2:
        raise InputError(f"{path}: has {truth.shape[2]} channels; save a one-channel PNG")
    kinds = np.unique(truth)
    if gt_as == "boundary" and np.count_nonzero(kinds) > 1:
        raise InputError(
            f"{path}: holds {len(kinds)} different values, a boundary map only 0 and one other; "
            "for a label map pass --gt-as partition, a soft map cut at a threshold"
        )
    if gt_as == "boundary":
        _require_thin(path, truth)
    return [truth]


def _require_thin(path: Path, truth: NDArray[Any]) -> None:
    share = np.count_nonzero(truth) / max(truth.size, 1)
    if share > MOST_BOUNDARY:
        raise InputError(
            f"{path}: marks {share:.0%} of the pixels as boundary, so black and white are "
            "exchanged: save boundaries as white on black"
        )


def _read_picture(path: Path, kind: str, by_colour: bool = False) -> tuple[NDArray[Any], str]:
    """The stored values (palette numbers where there is a palette, unless it is to be taken by the
    brightness of its colours) and Pillow's mode.
    """
    with _reading(path, kind):
        data = path.read_bytes()
        if data.startswith(PNG):
            chunks_of_png(data)
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            shown = image.convert("L") if by_colour and image.mode == "P" else image
            return np.asarray(shown), image.mode


def _read_mat(path: Path, gt_as: GtAs) -> list[NDArray[Any]]:
    content = _load_mat(path)
    keys = sorted(content)
    if "groundTruth" in keys:
        return _annotators(path, content["groundTruth"], BSDS_FIELDS[gt_as])
    if "LabelMap" not in keys:
        raise InputError(
            f"{path}: has no 'groundTruth' (BSDS) or 'LabelMap' (PASCAL-Context), "
            f"only {', '.join(keys) or 'nothing'}"
        )
    if gt_as == "boundary":
        raise InputError(f"{path}: 'LabelMap' is a label map; pass --gt-as partition")
    return [_two_dimensional(path, "LabelMap", content["LabelMap"])]


def _load_mat(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    with _reading(path, ".mat"):
        try:
            content = loadmat(path)
        except NotImplementedError:
            raise InputError(f"{path}: is a MATLAB 7.3 file; save it with -v7") from None
    return {key: value for key, value in content.items() if not key.startswith("__")}


def _annotators(path: Path, cells: Any, field: str) -> list[NDArray[Any]]:
    try:
        maps = [cell[field][0, 0] for cell in np.ravel(cells)]
    except (KeyError, IndexError, ValueError, TypeError):
        raise InputError(f"{path}: an annotator in 'groundTruth' has no '{field}'") from None
    if not maps:
        raise InputError(f"{path}: 'groundTruth' holds no annotator")
    found = [_two_dimensional(path, field, each) for each in maps]
    if field == BSDS_FIELDS["boundary"]:
        for each in found:
            _require_thin(path, each)
    return found


def _two_dimensional(path: Path, field: str, values: Any) -> NDArray[Any]:
    dense = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    if dense.ndim != 2 or dense.dtype.kind not in "biuf":
        raise InputError(
            f"{path}: '{field}' is {dense.dtype} of shape {dense.shape}; "
            "a two-dimensional map of numbers is expected"
        )
    if not np.isfinite(dense).all():
        raise InputError(f"{path}: '{field}' holds NaN or infinity")
    return dense


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    """Whatever parsers make of a damaged file becomes one line, but for a want of memory."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{path}: cannot be read as {kind} ({_line(error)})") from None


def _line(error: Exception) -> str:
    """The error's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__
