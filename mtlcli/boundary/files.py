"""Reading one prediction or one ground truth from its file; a bad file is one clear line."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtlcli.boundary.counts import GtAs, quantise
from mtlcli.errors import InputError

PREDICTION_SUFFIXES = (".png", ".npy")
TRUTH_SUFFIXES = (".png", ".mat")
BSDS_FIELDS = {"boundary": "Boundaries", "partition": "Segmentation"}


def read_prediction(path: Path) -> NDArray[np.uint8]:
    """(H, W) uint8 from an 8-bit greyscale PNG, or from a .npy of probabilities in [0, 1].

    Raises:
        InputError: unreadable, not 8-bit greyscale, not two-dimensional, NaN, outside [0, 1].
    """
    if path.suffix.lower() == ".png":
        levels, mode = _read_png(path)
        if mode != "L":
            raise InputError(
                f"{path}: the PNG is not 8-bit greyscale (Pillow mode {mode}); "
                "save one channel of 255 * probability"
            )
        return levels
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as .npy ({_line(error)})") from None
    if values.ndim != 2 or values.dtype.kind != "f":
        raise InputError(
            f"{path}: holds {values.dtype} of shape {values.shape}; "
            "a two-dimensional array of probabilities (float) is expected"
        )
    try:
        return quantise(values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_truth(path: Path, gt_as: GtAs) -> list[NDArray[Any]]:
    """The (H, W) ground truths of one image, one per annotator.

    A PNG or the `LabelMap` of a PASCAL-Context .mat is one; the `groundTruth` of a BSDS .mat has
    one per annotator, its Boundaries (gt_as "boundary") or its Segmentation ("partition").

    Raises:
        InputError: unreadable, no expected key, or a label map taken as boundaries.
    """
    if path.suffix.lower() == ".mat":
        return _read_mat(path, gt_as)
    truth, _ = _read_png(path)
    if truth.ndim != 2:
        raise InputError(f"{path}: has {truth.shape[2]} channels; save a one-channel PNG")
    kinds = np.unique(truth)
    if gt_as == "boundary" and np.count_nonzero(kinds) > 1:
        raise InputError(
            f"{path}: holds {len(kinds)} different values, a boundary map only 0 and one other; "
            "for a label map pass --gt-as partition"
        )
    return [truth]


def _read_png(path: Path) -> tuple[NDArray[Any], str]:
    """The stored values (palette numbers where there is a palette) and Pillow's mode."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return np.asarray(image), image.mode
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as PNG ({_line(error)})") from None


def _read_mat(path: Path, gt_as: GtAs) -> list[NDArray[Any]]:
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except NotImplementedError:
        raise InputError(f"{path}: is a MATLAB 7.3 file; save it with -v7") from None
    except Exception as error:  # scipy's parser fails in many ways on a damaged file
        raise InputError(f"{path}: cannot be read as .mat ({_line(error)})") from None
    keys = sorted(key for key in content if not key.startswith("__"))
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


def _annotators(path: Path, cells: Any, field: str) -> list[NDArray[Any]]:
    try:
        maps = [cell[field][0, 0] for cell in np.ravel(cells)]
    except (KeyError, IndexError, ValueError, TypeError):
        raise InputError(f"{path}: an annotator in 'groundTruth' has no '{field}'") from None
    if not maps:
        raise InputError(f"{path}: 'groundTruth' holds no annotator")
    return [_two_dimensional(path, field, each) for each in maps]


def _two_dimensional(path: Path, field: str, values: Any) -> NDArray[Any]:
    dense = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    if dense.ndim != 2 or dense.dtype.kind not in "biuf":
        raise InputError(
            f"{path}: '{field}' is {dense.dtype} of shape {dense.shape}; "
            "a two-dimensional map of numbers is expected"
        )
    return dense


def _line(error: Exception) -> str:
    """The error's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__
