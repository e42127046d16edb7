"""A picture in, named maps out."""

import numpy as np
import torch

from mtlcli.checkpoint import Trained
from mtlcli.data.augment import normalise
from mtlcli.data.batches import to_resolution
from mtlcli.scoring import at_size


@torch.inference_mode()
def predict(trained: Trained, image: np.ndarray) -> dict[str, np.ndarray]:
    """All maps of a picture, at its own size.

    The network sees the picture at about as many pixels as it was trained on, in its own
    proportions.

    Args:
        trained: network and preprocessing.
        image: RGB (H, W, 3) uint8.

    Returns:
        task -> class maps (H, W) uint8; depth (1, H, W) metres, normals (3, H, W) unit vectors,
        boundaries and saliency (1, H, W) probabilities, float32.
    """
    height, width = image.shape[:2]
    wanted = trained.size[0] * trained.size[1]
    factor = (wanted / (height * width)) ** 0.5
    pixels = normalise(to_resolution(image, (factor, factor)))
    device = next(trained.network.parameters()).device
    logits = trained.network(torch.from_numpy(pixels)[None].to(device))
    return {
        name: task.decode(at_size(logits[name].float(), (height, width)))[0].cpu().numpy()
        for name, task in trained.tasks.items()
    }
