"""Swin weights as they are published, brought to torchvision's names and channel order.

mmsegmentation and torchvision differ in names and in how patch merging orders the channels of a
2x2 neighbourhood: `nn.Unfold` puts the neighbours of one channel side by side, in raster order;
torchvision puts whole pixels one after the other, column by column.
"""

import re

from torch import Tensor

from mtlcli.backbones._weights import Converted, State, of_backbone, without

RENAMED = (  # pattern in mmsegmentation, name in torchvision
    (r"patch_embed\.projection\.", "features.0.0."),
    (r"patch_embed\.norm\.", "features.0.2."),
    (r"stages\.(\d)\.blocks\.(\d+)\.attn\.w_msa\.", "features.{stage}.{block}.attn."),
    (r"stages\.(\d)\.blocks\.(\d+)\.ffn\.layers\.0\.0\.", "features.{stage}.{block}.mlp.0."),
    (r"stages\.(\d)\.blocks\.(\d+)\.ffn\.layers\.1\.", "features.{stage}.{block}.mlp.3."),
    (r"stages\.(\d)\.blocks\.(\d+)\.", "features.{stage}.{block}."),
    (r"stages\.(\d)\.downsample\.", "features.{merging}."),
    (r"norm(\d)\.", "norms.{index}."),
)
NEIGHBOURS = (2, 2)  # rows and columns that merge


def convert(state: State) -> Converted | None:
    """From torchvision, mmsegmentation or a run of ours; None if it is none of them."""
    inside, others = of_backbone(state)
    if "features.0.0.weight" in inside:
        tensors, classification = without(inside, ("norm", "head"))
        fresh = () if "norms.0.weight" in inside else ("norms",)
        return Converted(tensors=tensors, ignored=others + classification, fresh=fresh)
    if "patch_embed.projection.weight" in inside:
        tensors = {torchvision_name(k): torchvision_order(k, v) for k, v in inside.items()}
        return Converted(tensors=tensors, ignored=others)
    return None


def torchvision_name(name: str) -> str:
    """The name of mmsegmentation's tensor in torchvision; unknown names stay."""
    for pattern, target in RENAMED:
        found = re.match(pattern, name)
        if found:
            numbers = [int(n) for n in found.groups()] + [0, 0]
            stage, block = numbers[:2]
            places = {"stage": 2 * stage + 1, "block": block, "merging": 2 * stage + 2}
            return target.format(index=stage, **places) + name[found.end() :]
    return name


def torchvision_order(name: str, tensor: Tensor) -> Tensor:
    """The tensor of mmsegmentation's name as torchvision lays it out."""
    if name.endswith("relative_position_index"):
        return tensor.flatten()
    if ".downsample." in name:
        return blocks_of_pixels(tensor)
    return tensor


def blocks_of_pixels(tensor: Tensor) -> Tensor:
    """(..., C * 2 * 2), rows before columns inside each channel -> (..., 2 * 2 * C), the pixels of
    the left column, upper one first, before those of the right.
    """
    per_pixel = tensor.unflatten(-1, (-1, *NEIGHBOURS))  # ..., C, row, column
    return per_pixel.transpose(-1, -3).flatten(-3)  # ..., column, row, C
