"""Swin Transformer (Liu et al., arXiv 2103.14030): torchvision's blocks as a dense backbone.

As in mmsegmentation, the image is padded to a multiple of the patch size at its right and bottom,
each of the four outputs has its own LayerNorm, and drop path grows from 0 to 0.1 over the depth.
A map no larger than a window (the last stage's, of images up to 224 pixels along a side) is not
shifted, as torchvision has it; DeMT's Swin shifts it, too, and its last map is another there.
Parameter names are torchvision's without its classification part, plus `norms`.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer

PATCH = 4


class Swin(nn.Module):
    """Four stages of 96, 192, 384 and 768 channels in windows of 7x7.

    Args:
        depths: blocks of each stage.
        drop_path: probability of skipping the last block in training.
    """

    def __init__(self, depths: Sequence[int], drop_path: float = 0.1) -> None:
        super().__init__()
        self.channels = (96, 192, 384, 768)
        self.features = SwinTransformer(
            patch_size=[PATCH, PATCH],
            embed_dim=self.channels[0],
            depths=list(depths),
            num_heads=[3, 6, 12, 24],
            window_size=[7, 7],
            stochastic_depth_prob=drop_path,
            num_classes=1,
        ).features
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-5) for width in self.channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> four maps (B, channels[i], H / 2^(i+2), W / 2^(i+2)), rounded up."""
        height, width = image.shape[-2:]
        x = F.pad(image, (0, -width % PATCH, 0, -height % PATCH))
        maps = []
        for index, layer in enumerate(self.features):  # embedding, stage, merging, stage, ...
            x = layer(x)  # B, H, W, C
            if index % 2 == 1:
                maps.append(self.norms[index // 2](x).permute(0, 3, 1, 2))
        return maps
