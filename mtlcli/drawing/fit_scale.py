"""`mtl eval --fit-scale`: depth as one's own camera has it, from a few pictures with depth."""

import io
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mtlcli.data.images import read_image
from mtlcli.drawing.points import depth_task, units_of
from mtlcli.drawing.prediction import predict
from mtlcli.errors import InputError
from mtlcli.files import write_json
from mtlcli.maps._decode import numbers
from mtlcli.maps._picture import read_grey, suffixes
from mtlcli.maps.depth import MILLIMETRE
from mtlcli.runs import checkpoint, hub_run
from mtlcli.runs.folder import read_object, record_file
from mtlcli.runs.names import file_of, is_shipped
from mtlcli.runs.record import read_record
from mtlcli.runs.scale import DepthScale

LAYOUT = "NAME.jpg with NAME.npy (metres) or depth/NAME.png (16 bit, millimetres)"
FARTHEST = 1000.0  # metres; what lies beyond in the middle is of another unit
EVERY = 100_000  # pixels of a picture that are looked at, at most
FLAT = 0.1  # spread of log depth, predicted or measured, below which an exponent cannot be told
STEEPEST = 2.0  # exponent, and one over the flattest: beyond it is what few depths happen to say


def fit_scale(run: Path, folder: Path, device: str = "auto") -> DepthScale:
    """Fit log depth' = exponent * log depth + log factor by least squares, and keep it in the run.

    Args:
        run: checkpoint or run folder.
        folder: pictures, each with the depth that was measured.
        device: auto, cpu, cuda or mps.

    Raises:
        InputError: nothing to fit on, a file that is no depth map of its picture, a network without
            depth, or a run that cannot keep it.
        RunError: run.json cannot be written.
    """
    file = file_of(run)
    if is_shipped(file) or hub_run.repository(file.parent):
        raise InputError(
            f"{run} is not yours and stays as it is: `mtl pack {run} --out weights/mine`, then fit "
            "that."
        )
    trained = checkpoint.load(file, device).unscaled
    if trained.takes:
        raise InputError(f"{run} is an exported file: fit its run, and export that again.")
    task, path = depth_task(trained.tasks, units_of(trained)), record_file(file.parent)
    record = read_record(file.parent)
    pairs = [pair for p in pictures_of(folder) if (pair := measured(p)) is not None]
    if not pairs:
        raise InputError(f"--fit-scale {folder}: no picture with its depth there: {LAYOUT}.")
    own, truth = [], []
    for picture, metres in pairs:
        image = read_image(picture)
        if metres.shape != image.shape[:2]:
            raise InputError(
                f"The depth of {picture} is {metres.shape[1]}x{metres.shape[0]}, the picture "
                f"{image.shape[1]}x{image.shape[0]}: both must have one size."
            )
        found = predict(trained, image)[task][0]
        known = np.isfinite(metres) & (metres > 0) & (found > 0)
        step = max(1, np.count_nonzero(known) // EVERY)
        own.append(found[known][::step].astype(np.float64))
        truth.append(metres[known][::step].astype(np.float64))
    scale = fit(np.concatenate(own), np.concatenate(truth), len(pairs))
    if not scale.after <= scale.before:
        raise InputError(
            f"--fit-scale {folder}: no scale helps this depth (RMSE {scale.before:.3g} -> "
            f"{scale.after:.3g} m); nothing is kept. Is the measured depth in metres?"
        )
    scales = {**(record.scales or {}), task: asdict(scale)}
    write_json(path, read_object(path) | {"scales": scales})
    return scale


def fit(own: np.ndarray, truth: np.ndarray, pictures: int) -> DepthScale:
    """The two numbers, in closed form; the exponent stays 1 where depths are too alike to tell it,
    and within what other pictures survive.

    Args:
        own: predicted, metres above 0.
        truth: measured there.
        pictures: that they come from.
    """
    if not len(own):
        raise InputError("--fit-scale: no pixel has both a measured and a predicted depth.")
    x, y = np.log(own), np.log(truth)
    exponent = 1.0
    if min(x.std(), y.std()) > FLAT:
        exponent = float(((x - x.mean()) * (y - y.mean())).mean() / x.var())
    if exponent <= 0:  # nearer would become farther
        exponent = 1.0
    exponent = min(max(exponent, 1 / STEEPEST), STEEPEST)
    factor = float(np.exp(y.mean() - exponent * x.mean()))

    def error(values: np.ndarray) -> float:
        return float(np.sqrt(np.square(values - truth).mean()))

    return DepthScale(
        exponent=exponent,
        factor=factor,
        pictures=pictures,
        before=error(own),
        after=error(factor * own**exponent),
    )


def pictures_of(folder: Path) -> list[Path]:
    """The pictures of a folder, by name (raises InputError: it is none)."""
    if not folder.is_dir():
        raise InputError(f"--fit-scale {folder} is no folder of pictures: {LAYOUT}.")
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes())


def measured(picture: Path) -> tuple[Path, np.ndarray] | None:
    """A picture and the metres (H, W) beside it, 0 where nothing was measured; None without any."""
    for path in (picture.with_suffix(".npy"), picture.parent / "depth" / f"{picture.stem}.npy"):
        if path.is_file():
            return picture, read_depth(path)
    path = picture.parent / "depth" / f"{picture.stem}.png"
    return (picture, read_depth(path)) if path.is_file() else None


def read_depth(path: Path) -> np.ndarray:
    """(H, W) metres.

    Raises:
        InputError: it is no such map.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".npy":
            metres = numbers(content)
        else:
            read = read_grey(io.BytesIO(content))
            if read.dtype == np.uint8:
                raise InputError(f"{path} is no depth map: it has 8 bits; 16 are millimetres.")
            metres = read.astype(np.float32) * MILLIMETRE
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no depth map: {LAYOUT}.") from error
    if metres.ndim != 2:
        raise InputError(f"{path} is no depth map: it is {metres.shape}, not (height, width).")
    if (middle := np.median(metres[metres > 0]) if (metres > 0).any() else 0) > FARTHEST:
        raise InputError(f"{path}: depth of {middle:g} m in the middle; it must be in metres.")
    return metres
