"""For notebooks and programs: `net = mtlcli.load(run)`, then `net.predict(picture)`."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeGuard, overload

import numpy as np
from PIL import Image

from mtlcli.data.images import read_image
from mtlcli.drawing.prediction import Prediction, predict
from mtlcli.errors import InputError
from mtlcli.maps._picture import to_rgb
from mtlcli.runs import checkpoint
from mtlcli.runs.checkpoint import Trained
from mtlcli.runs.default_run import default_run

Picture: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray
Pictures: TypeAlias = list[Picture] | tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A trained network, ready to be shown pictures."""

    trained: Trained

    def __repr__(self) -> str:
        return f"Predictor({self.trained.path}: {', '.join(self.tasks)})"

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of what it predicts."""
        return tuple(self.trained.tasks)

    @overload
    def predict(self, image: Pictures) -> list[Prediction]: ...

    @overload
    def predict(self, image: Picture) -> Prediction: ...

    def predict(self, image: Picture | Pictures) -> Prediction | list[Prediction]:
        """All maps of a picture, at its own size; of several pictures a list.

        Args:
            image: path, Pillow image, or RGB (H, W, 3) or grey (H, W) array, uint8 or floats in
                [0, 1]; or a list of these, or a batch (B, H, W, 3).

        Raises:
            InputError: an unreadable file, no picture at all, or an array of another shape, type
                or range. Nothing is predicted if one of several is wrong.
        """
        if holds_several(image):
            return [self._predict(pixels, source) for pixels, source in read_all(image)]
        return self._predict(as_pixels(image), source_of(image))

    def _predict(self, pixels: np.ndarray, source: str) -> Prediction:
        maps = predict(self.trained, pixels)
        return Prediction(image=pixels, maps=maps, trained=self.trained, source=source)


def load(path: str | os.PathLike[str] | None = None, device: str = "auto") -> Predictor:
    """The network of a run.

    from mtlcli import load
    load("nyud_small").predict("photo.jpg")["depth"]  # (H, W) metres

    Args:
        path: name of a run, its folder, a checkpoint, hf:USER/REPO[@REV], or what `train` returned;
            by default that of `default_run`, and a line on stderr says which that is.
        device: auto, cpu, cuda, cuda:1, mps.

    Raises:
        InputError: no such checkpoint or device.
    """
    if path is None:
        choice = default_run()
        print(f"Network: {choice.path} ({choice.remark('load(NAME)')})", file=sys.stderr)
        path = choice.path
    return Predictor(trained=checkpoint.load(Path(path), device))


def holds_several(image: Picture | Pictures) -> TypeGuard[Pictures]:
    """Whether it is a list of pictures or a batch."""
    return isinstance(image, list | tuple) or (isinstance(image, np.ndarray) and image.ndim == 4)


def source_of(image: object) -> str:
    """A picture's own file; "" where it has none."""
    return str(Path(image)) if isinstance(image, str | os.PathLike) else ""


def read_all(images: Pictures) -> list[tuple[np.ndarray, str]]:
    """The pixels of each picture, and its file.

    Raises:
        InputError: there are none, or one is no picture; the message says which.
    """
    if not len(images):
        raise InputError("There is no picture to predict: the list is empty.")
    pairs = []
    for place, image in enumerate(images):
        try:
            pairs.append((as_pixels(image), source_of(image)))
        except InputError as error:
            raise InputError(f"Picture {place} of {len(images)}: {error}") from error
    return pairs


def as_pixels(image: object) -> np.ndarray:
    """RGB (H, W, 3) uint8.

    Raises:
        InputError: it is no picture.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        try:
            return to_rgb(image)
        except ValueError as error:
            raise InputError(f"The picture {error}.") from error
    if not isinstance(image, np.ndarray):
        kind = type(image).__name__
        raise InputError(f"A picture is a path, a Pillow image or a numpy array, no {kind}.")
    is_float = image.dtype.kind == "f"
    is_shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if not (is_shaped and image.size) or not (is_float or image.dtype == np.uint8):
        raise InputError(
            "A picture is an RGB array (H, W, 3) or a grey one (H, W) of uint8, or of floats in "
            f"[0, 1], not {image.shape} of {image.dtype}."
        )
    pixels = quantise(image) if is_float else image
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return np.ascontiguousarray(pixels)


def quantise(image: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as uint8, to the nearest.

    Raises:
        InputError: a number outside, or none.
    """
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):  # NaN compares with nothing
        found = "NaN" if np.isnan(image).any() else f"{low:g} to {high:g}"
        raise InputError(
            f"A picture of floats holds numbers from 0 to 1, not {found}: scale it, or give uint8."
        )
    return np.asarray(np.rint(image.astype(np.float64) * 255).astype(np.uint8))
