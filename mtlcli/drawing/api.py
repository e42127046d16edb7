"""For notebooks and programs: `net = mtlcli.load(run)`, then `net.predict(picture)`."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mtlcli.data.images import read_image
from mtlcli.drawing.prediction import Prediction, predict
from mtlcli.errors import InputError
from mtlcli.maps._picture import to_rgb
from mtlcli.runs import checkpoint
from mtlcli.runs.checkpoint import Trained
from mtlcli.runs.default_run import default_run


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

    def predict(self, image: str | Path | Image.Image | np.ndarray) -> Prediction:
        """All maps of a picture, at its own size.

        Args:
            image: path, Pillow image, or RGB (H, W, 3) or grey (H, W) uint8 array.

        Raises:
            InputError: an unreadable file, or an array of another shape or type.
        """
        pixels = as_pixels(image)
        return Prediction(image=pixels, maps=predict(self.trained, pixels), trained=self.trained)


def load(path: str | Path | None = None, device: str = "auto") -> Predictor:
    """The network of a run.

    Args:
        path: checkpoint (weights/RUN/best.pt) or run folder; by default that of
            `default_run`, and a line on stderr says which that is.
        device: auto, cpu, cuda, cuda:1, mps.

    Raises:
        InputError: no such checkpoint or device.
    """
    if path is None:
        choice = default_run()
        print(f"Network: {choice.path} ({choice.remark('load(NAME)')})", file=sys.stderr)
        path = choice.path
    return Predictor(trained=checkpoint.load(Path(path), device))


def as_pixels(image: str | Path | Image.Image | np.ndarray) -> np.ndarray:
    """RGB (H, W, 3) uint8.

    Raises:
        InputError: it is no picture.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        try:
            return to_rgb(image)
        except ValueError as error:
            raise InputError(f"The picture {error}.") from error
    pixels = np.asarray(image)
    if pixels.dtype == np.uint8 and pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise InputError(
            f"A picture is an RGB array (H, W, 3) of uint8, not {pixels.shape} of {pixels.dtype}."
        )
    return np.ascontiguousarray(pixels)
