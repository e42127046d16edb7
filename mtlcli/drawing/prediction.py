"""A picture in, named maps out, and how they are drawn."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mtlcli import lookup
from mtlcli.data.images import normalise, to_resolution
from mtlcli.drawing.grid import draw_grid
from mtlcli.drawing.overlay import overlay
from mtlcli.drawing.tiles import sheet_tiles
from mtlcli.errors import InputError, RunError
from mtlcli.runs.checkpoint import Trained
from mtlcli.tasks._shared import at_size
from mtlcli.tasks._task import Task

if TYPE_CHECKING:
    from mtlcli.drawing.points import Cloud

SHORTEST = 32  # pixels that a network must see along each side
BAND = 2**25  # numbers that are enlarged at once: 128 MB
Maps = Mapping[str, np.ndarray]


def predict(
    trained: Trained, image: np.ndarray, size: tuple[int, int] | None = None
) -> dict[str, np.ndarray]:
    """All maps of a picture.

    The network sees the picture at about as many pixels as it was trained on, in its own
    proportions, unless these are so long that a side would have less than 32 pixels.

    Args:
        trained: network and preprocessing.
        image: RGB (H, W, 3) uint8.
        size: height and width of the maps; by default the picture's.

    Returns:
        task -> class maps (H, W) uint8; depth (1, H, W) metres, normals (3, H, W) unit vectors,
        boundaries and saliency (1, H, W) probabilities, float32.

    Raises:
        RunError: see `maps_of`.
    """
    pixels = network_input(trained, image)
    return maps_of(trained, logits_of(trained, pixels[None]), size or image.shape[:2])


def network_input(trained: Trained, image: np.ndarray) -> np.ndarray:
    """The picture (H, W, 3) as the network wants it, (3, h, w) float32."""
    if trained.takes:
        height, width = trained.takes
        fitted = to_resolution(image, (height / image.shape[0], width / image.shape[1]))
        return normalise(fitted, trained.config.moments)
    wanted = trained.size[0] * trained.size[1]
    factor = (wanted / (image.shape[0] * image.shape[1])) ** 0.5
    longest = max(SHORTEST, wanted // SHORTEST)
    seen = [min(max(round(n * factor), SHORTEST), longest) for n in image.shape[:2]]
    shrunk = to_resolution(image, (seen[0] / image.shape[0], seen[1] / image.shape[1]))
    return normalise(shrunk, trained.config.moments)


@torch.inference_mode()
def logits_of(trained: Trained, pixels: np.ndarray) -> dict[str, Tensor]:
    """What the network says to a batch (B, 3, H, W) of what `network_input` made: task ->
    (B, C, h, w).
    """
    return trained.network(torch.from_numpy(pixels).to(trained.device))


@torch.inference_mode()
def maps_of(
    trained: Trained, logits: Mapping[str, Tensor], size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """The maps (see `predict`) of one picture's logits (1, C, h, w), at any height and width.

    Raises:
        RunError: the network gives what is no number.
    """
    if broken := [name for name in trained.tasks if logits[name].isnan().any()]:
        raise RunError(
            f"{trained.path} gives what is no number (NaN) for {', '.join(broken)}: its training "
            "diverged, or the file is damaged."
        )
    return {
        name: decode_map(task, logits[name].float(), size) for name, task in trained.tasks.items()
    }


def decode_map(task: Task, logits: Tensor, size: tuple[int, int]) -> np.ndarray:
    """A task's map (see `predict`) of logits (1, C, h, w), enlarged to (H, W) in bands of rows
    where the whole would need too much memory.
    """
    height, width = size
    rows = max(1, BAND // (logits.shape[1] * width))
    if rows >= height:
        return task.decode(at_size(logits, size))[0].cpu().numpy()
    bands = [
        task.decode(upsample_rows(logits, size, first, min(first + rows, height)))[0].cpu().numpy()
        for first in range(0, height, rows)
    ]
    return np.concatenate(bands, axis=-2)


def upsample_rows(logits: Tensor, size: tuple[int, int], first: int, last: int) -> Tensor:
    """Rows `first` to `last` (exclusive) of what `at_size` would give, (1, C, last - first, W)."""
    source = logits.shape[-2]
    place = (torch.arange(first, last, device=logits.device) + 0.5) * (source / size[0]) - 0.5
    place = place.clamp(0, source - 1)
    above = place.floor().long()
    below = (above + 1).clamp(max=source - 1)
    share = (place - above)[:, None]
    mixed = torch.lerp(logits[..., above, :], logits[..., below, :], share)
    return at_size(mixed, (last - first, size[1]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction(Mapping[str, np.ndarray]):
    """The maps of one picture by the names of their tasks, all at the picture's height and width.

    semseg, human_parts: (H, W) uint8, index into `classes[task]`
    depth:               (H, W) float32, metres along the optical axis
    normals:             (H, W, 3) float32, unit vectors pointing away from the camera in its frame
                         (x right, y down, z forward): a wall straight ahead is (0, 0, 1)
    edge, sal:           (H, W) float32, probability
    """

    image: np.ndarray  # RGB (H, W, 3) uint8
    maps: Maps  # as `predict` returns them
    trained: Trained
    source: str = ""  # the picture's file, if it was read from one

    def __getitem__(self, task: str) -> np.ndarray:
        if task not in self.maps:
            raise KeyError(describe_missing(task, self.maps))
        return channels_last(self.maps[task])

    def __iter__(self) -> Iterator[str]:
        return iter(self.maps)

    def __len__(self) -> int:
        return len(self.maps)

    def __repr__(self) -> str:
        listed = ", ".join(f"{n} {m.shape} {m.dtype}" for n, m in self.items())
        return f"Prediction({listed})"

    @property
    def name(self) -> str:
        """Of the files that are saved: that of the picture's own, or "picture"."""
        return Path(self.source).stem or "picture"

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes of the tasks that have some."""
        return {n: tuple(c) for n, c in self.trained.dataset.classes.items() if n in self.maps}

    def grid(self) -> Image.Image:
        """The picture and all maps in one, each with the key to its colours."""
        return Image.fromarray(draw_grid(sheet_tiles(self.trained, self.image, self.maps)))

    def overlay(self) -> np.ndarray:
        """The picture with its classes in colours and its boundaries in white, RGB (H, W, 3) uint8
        (raises InputError if the network predicts neither).
        """
        return overlay(self.trained, self.image, self.maps)

    def points(
        self, colours: str = "picture", *, fov: float | None = None, focal: float | None = None
    ) -> "Cloud":
        """The depth as coloured points in space, at most a million (see `points.Cloud`); its
        `save` writes .ply and .glb.

        Args:
            colours: of the "picture" or of its "classes".
            fov: of the camera, degrees across; by default what the file's EXIF says, else 60.
            focal: or its focal length, pixels of the picture.

        Raises:
            InputError: the network predicts no depth in metres, sees none here, or an absurd
                camera.
        """
        from mtlcli.drawing.lens import check_lens, lens_of
        from mtlcli.drawing.points import cloud_of, size_of

        check_lens(fov, focal)
        height, width = self.image.shape[:2]
        eye = lens_of(Path(self.source) if self.source else None, width, height, fov, focal)
        size = size_of(height, width)
        fits = size == (height, width)
        maps = self.maps if fits else predict(self.trained, self.image, size)
        return cloud_of(self.trained, self.image, maps, eye, colours)

    def save(self, folder: str | os.PathLike[str], name: str | None = None) -> list[Path]:
        """Write the files of `mtl visualize --separate` (see `files.write_separate`) and return
        their paths.

        Args:
            folder: is made if need be. What mtl did not write there stays: the new files get a
                number.
            name: of the files; by default that of the picture's own file, or "picture", with a
                number where the maps of another picture have that.

        Raises:
            InputError: `folder` is a file, or `name` no name of a file.
            RunError: nothing can be written there.
        """
        from mtlcli.drawing.files import save_separate

        chosen, own = name is not None, self.name if name is None else name
        return save_separate(
            self.trained, self.image, self.maps, Path(folder), own, self.source, chosen=chosen
        )

    def _repr_png_(self) -> bytes:
        """What a notebook shows: `grid`."""
        file = io.BytesIO()
        self.grid().save(file, "PNG")
        return file.getvalue()


def channels_last(prediction: np.ndarray) -> np.ndarray:
    """(H, W) of a class map or a single channel, (H, W, C) of several."""
    if prediction.ndim == 2:
        return prediction
    return prediction[0] if len(prediction) == 1 else prediction.transpose(1, 2, 0)


def choose_tasks(trained: Trained, wanted: Sequence[str]) -> tuple[str, ...]:
    """The tasks to show: those wanted, or all of the network.

    Raises:
        InputError: the network does not predict one of them.
    """
    for task in wanted:
        if task not in trained.tasks:
            raise InputError(f"{trained.path}: {describe_missing(task, trained.tasks)}")
    return tuple(wanted) or tuple(trained.tasks)


def describe_missing(task: str, known: Iterable[str]) -> str:
    """What to say of a task that a network does not have."""
    hint = lookup.suggest(task, known)
    return f"this network does not predict '{task}'.{hint} It predicts {', '.join(known)}."
