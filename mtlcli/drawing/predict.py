"""A picture in, named maps out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlcli.data.augment import normalise
from mtlcli.data.batches import to_resolution
from mtlcli.runs.checkpoint import Trained
from mtlcli.scoring.measure import at_size

SHORTEST = 32  # pixels that a network must see along each side
BAND = 2**25  # numbers that are enlarged at once: 128 MB


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
    """
    return infer(trained, network_input(trained, image), size or image.shape[:2])


def network_input(trained: Trained, image: np.ndarray) -> np.ndarray:
    """The picture (H, W, 3) as the network wants it, (3, h, w) float32."""
    wanted = trained.size[0] * trained.size[1]
    factor = (wanted / (image.shape[0] * image.shape[1])) ** 0.5
    longest = max(SHORTEST, wanted // SHORTEST)
    seen = [min(max(round(n * factor), SHORTEST), longest) for n in image.shape[:2]]
    return normalise(to_resolution(image, (seen[0] / image.shape[0], seen[1] / image.shape[1])))


def infer(trained: Trained, pixels: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """The maps (see `predict`) of what `network_input` made, at any height and width."""
    return maps_of(trained, logits_of(trained, pixels[None]), size)


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
    """The maps (see `predict`) of one picture's logits (1, C, h, w), at any height and width."""
    return {name: decoded(task, logits[name].float(), size) for name, task in trained.tasks.items()}


def decoded(task: Any, logits: Tensor, size: tuple[int, int]) -> np.ndarray:
    """A task's map (see `predict`) of logits (1, C, h, w), enlarged to (H, W) in bands of rows
    where the whole would need too much memory.
    """
    height, width = size
    rows = max(1, BAND // (logits.shape[1] * width))
    if rows >= height:
        return task.decode(at_size(logits, size))[0].cpu().numpy()
    bands = [
        task.decode(band(logits, size, first, min(first + rows, height)))[0].cpu().numpy()
        for first in range(0, height, rows)
    ]
    return np.concatenate(bands, axis=-2)


def band(logits: Tensor, size: tuple[int, int], first: int, last: int) -> Tensor:
    """Rows `first` to `last` (exclusive) of what `at_size` would give, (1, C, last - first, W)."""
    source = logits.shape[-2]
    place = (torch.arange(first, last, device=logits.device) + 0.5) * (source / size[0]) - 0.5
    place = place.clamp(0, source - 1)
    above = place.floor().long()
    below = (above + 1).clamp(max=source - 1)
    share = (place - above)[:, None]
    mixed = torch.lerp(logits[..., above, :], logits[..., below, :], share)
    return at_size(mixed, (last - first, size[1]))
