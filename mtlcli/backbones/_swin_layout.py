"""Swin weights as they are published, brought to torchvision's names and channel order.

Layouts differ in names, in whether patch merging ends a stage or begins the next (timm), in whether
query, key and value are one matrix, and in how patch merging orders the channels of a 2x2
neighbourhood: torchvision, Microsoft, timm and transformers put whole pixels one after the other,
column by column; mmsegmentation's `nn.Unfold` puts the neighbours of one channel side by side, in
raster order.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mtlcli.backbones._weights import Converted, State, of_backbone, without

Rules = tuple[tuple[str, str], ...]
CLASSIFICATION = ("norm", "head", "layernorm", "pooler", "swin")  # `swin.layernorm`: transformers 5
MASK = "attn_mask"  # follows from the image's size, which here is no constant
QKV = ("query", "key", "value")
NEIGHBOURS = (2, 2)  # rows and columns that merge


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one program names the tensors of a Swin."""

    title: str
    sign: str  # a tensor of every size, by a name that no other layout has
    rules: Rules = ()  # pattern of its names -> ours; see `places` for what stands in braces
    unfolds: bool = False  # merges by `nn.Unfold`


BLOCK = r"layers\.(\d)\.blocks\.(\d+)\."
MICROSOFTS: Rules = (
    (r"patch_embed\.proj\.", "features.0.0."),
    (r"patch_embed\.norm\.", "features.0.2."),
    (BLOCK + r"mlp\.fc1\.", "features.{stage}.{block}.mlp.0."),
    (BLOCK + r"mlp\.fc2\.", "features.{stage}.{block}.mlp.3."),
    (BLOCK, "features.{stage}.{block}."),
    (r"norm(\d)\.", "norms.{index}."),
)
KNOWN = (
    Layout(title="torchvision", sign="features.0.0.weight"),  # and a run of ours
    Layout(
        title="Microsoft (Swin-Transformer, SwinTransformer-Semantic-Segmentation)",
        sign="layers.0.downsample.norm.weight",
        rules=(*MICROSOFTS, (r"layers\.(\d)\.downsample\.", "features.{after}.")),
    ),
    Layout(
        title="timm",
        sign="layers.3.downsample.norm.weight",
        rules=(*MICROSOFTS, (r"layers\.(\d)\.downsample\.", "features.{before}.")),
    ),
    Layout(
        title="mmsegmentation",
        sign="patch_embed.projection.weight",
        rules=(
            (r"patch_embed\.projection\.", "features.0.0."),
            (r"patch_embed\.norm\.", "features.0.2."),
            (r"stages\.(\d)\.blocks\.(\d+)\.attn\.w_msa\.", "features.{stage}.{block}.attn."),
            (
                r"stages\.(\d)\.blocks\.(\d+)\.ffn\.layers\.0\.0\.",
                "features.{stage}.{block}.mlp.0.",
            ),
            (r"stages\.(\d)\.blocks\.(\d+)\.ffn\.layers\.1\.", "features.{stage}.{block}.mlp.3."),
            (r"stages\.(\d)\.blocks\.(\d+)\.", "features.{stage}.{block}."),
            (r"stages\.(\d)\.downsample\.", "features.{after}."),
            (r"norm(\d)\.", "norms.{index}."),
        ),
        unfolds=True,
    ),
    Layout(
        title="transformers",
        sign="embeddings.patch_embeddings.projection.weight",
        rules=(
            (r"embeddings\.patch_embeddings\.projection\.", "features.0.0."),
            (r"embeddings\.norm\.", "features.0.2."),
            (r"encoder\." + BLOCK + r"attention\.self\.", "features.{stage}.{block}.attn."),
            (
                r"encoder\." + BLOCK + r"attention\.output\.dense\.",
                "features.{stage}.{block}.attn.proj.",
            ),
            (r"encoder\." + BLOCK + r"layernorm_before\.", "features.{stage}.{block}.norm1."),
            (r"encoder\." + BLOCK + r"layernorm_after\.", "features.{stage}.{block}.norm2."),
            (r"encoder\." + BLOCK + r"intermediate\.dense\.", "features.{stage}.{block}.mlp.0."),
            (r"encoder\." + BLOCK + r"output\.dense\.", "features.{stage}.{block}.mlp.3."),
            (r"encoder\.layers\.(\d)\.downsample\.", "features.{after}."),
            (r"hidden_states_norms\.stage(\d)\.", "norms.{previous}."),
        ),
    ),
)
LAYOUTS = (*(layout.title for layout in KNOWN), "a run of mtl")


def convert(state: State) -> Converted | None:
    """From any of the layouts, alone or inside a larger network; None if it is none of them."""
    inside, others = of_backbone(state)
    layout = next((layout for layout in KNOWN if layout.sign in inside), None)
    if layout is None:
        return None
    inside, classification = without(inside, CLASSIFICATION)
    tensors = joined({
        torchvision_name(name, layout.rules): torchvision_order(name, tensor, layout)
        for name, tensor in inside.items()
        if not name.endswith(MASK)
    })  # fmt: skip
    fresh = () if "norms.0.weight" in tensors else ("norms",)
    return Converted(tensors=tensors, ignored=others + classification, fresh=fresh)


def torchvision_name(name: str, rules: Rules) -> str:
    """The name of a tensor in torchvision; unknown names stay."""
    for pattern, target in rules:
        found = re.match(pattern, name)
        if found:
            return target.format(**places(*map(int, found.groups()))) + name[found.end() :]
    return name


def places(stage: int = 0, block: int = 0) -> dict[str, int]:
    """Where a stage stands in torchvision's sequence: embedding, stage, merging, stage, ..."""
    return {
        "index": stage,
        "previous": stage - 1,
        "before": 2 * stage,  # the merging that leads to it
        "stage": 2 * stage + 1,
        "after": 2 * stage + 2,
        "block": block,
    }


def torchvision_order(name: str, tensor: Tensor, layout: Layout) -> Tensor:
    """The tensor as torchvision lays it out."""
    if name.endswith("relative_position_index"):
        return tensor.flatten()
    if layout.unfolds and ".downsample." in name:
        return blocks_of_pixels(tensor)
    return tensor


def blocks_of_pixels(tensor: Tensor) -> Tensor:
    """(..., C * 2 * 2), rows before columns inside each channel -> (..., 2 * 2 * C), the pixels of
    the left column, upper one first, before those of the right.
    """
    per_pixel = tensor.unflatten(-1, (-1, *NEIGHBOURS))  # ..., C, row, column
    return per_pixel.transpose(-1, -3).flatten(-3)  # ..., column, row, C


def joined(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With query, key and value of an attention, where they are apart, in one tensor `qkv`."""
    whole = dict(tensors)
    for name in tensors:
        if ".attn.query." in name:
            parts = [name.replace(".query.", f".{part}.") for part in QKV]
            if all(part in whole for part in parts):
                together = torch.cat([whole.pop(part) for part in parts])
                whole[name.replace(".query.", ".qkv.")] = together
    return whole
