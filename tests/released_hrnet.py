"""HRNet-W18-small-v2 as ATRC and DeMT released it, computed from its tensors alone."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]
MODULES = {2: 1, 3: 3, 4: 2}  # exchange modules of the stages


def released_maps(state: State, image: Tensor) -> list[Tensor]:
    """(B, 3, H, W) -> the four maps in evaluation, `state` by the official names."""
    x = unit(state, "conv2", "bn2", unit(state, "conv1", "bn1", image, 2), 2)
    for block in ("layer1.0", "layer1.1"):
        x = residual(state, block, x, (1, 2, 3))
    maps = [x]
    for stage, modules in MODULES.items():
        maps = enter(state, f"transition{stage - 1}", maps)
        for module in range(modules):
            maps = exchange(state, f"stage{stage}.{module}", maps)
    return maps


def layer(state: State, conv: str, norm: str, x: Tensor, stride: int = 1) -> Tensor:
    """A convolution that keeps the size, or halves it rounding up, and its batch norm."""
    weight = state[f"{conv}.weight"]
    x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
    mean, var, scale, shift = (
        state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, mean, var, scale, shift, eps=1e-5)


def unit(state: State, conv: str, norm: str, x: Tensor, stride: int = 1) -> Tensor:
    return torch.relu(layer(state, conv, norm, x, stride))


def residual(state: State, at: str, x: Tensor, layers: tuple[int, ...]) -> Tensor:
    """x, widened where there is a shortcut for it, plus its layers with ReLU between them."""
    y = x
    for i in layers[:-1]:
        y = unit(state, f"{at}.conv{i}", f"{at}.bn{i}", y)
    y = layer(state, f"{at}.conv{layers[-1]}", f"{at}.bn{layers[-1]}", y)
    if f"{at}.downsample.0.weight" in state:
        x = layer(state, f"{at}.downsample.0", f"{at}.downsample.1", x)
    return torch.relu(y + x)


def enter(state: State, at: str, maps: list[Tensor]) -> list[Tensor]:
    """One more branch, opened at half the coarsest; others are adapted where there is a layer."""
    kept = [
        unit(state, f"{at}.{i}.0", f"{at}.{i}.1", x) if f"{at}.{i}.0.weight" in state else x
        for i, x in enumerate(maps)
    ]
    new = f"{at}.{len(maps)}.0"
    return [*kept, unit(state, f"{new}.0", f"{new}.1", maps[-1], 2)]


def exchange(state: State, at: str, maps: list[Tensor]) -> list[Tensor]:
    """Two residual blocks on each branch, then every branch receives all of them."""
    for block in range(2):
        maps = [
            residual(state, f"{at}.branches.{i}.{block}", x, (1, 2)) for i, x in enumerate(maps)
        ]
    return [
        torch.relu(sum(arriving(state, f"{at}.fuse_layers.{i}", maps, i))) for i in range(len(maps))
    ]


def arriving(state: State, at: str, maps: list[Tensor], target: int) -> list[Tensor]:
    """All maps as they come to one branch: coarser ones doubled k times at once, then resized."""
    come = []
    for source, x in enumerate(maps):
        name = f"{at}.{source}"
        if source > target:
            x = layer(state, f"{name}.0", f"{name}.1", x)
            x = F.interpolate(
                x, scale_factor=2 ** (source - target), mode="bilinear", align_corners=False
            )
            size = maps[target].shape[-2:]
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        for step in range(target - source):
            x = layer(state, f"{name}.{step}.0", f"{name}.{step}.1", x, 2)
            x = torch.relu(x) if step < target - source - 1 else x
        come.append(x)
    return come
