"""DeMT on HRNet18 as released, one image at a time, computed from its tensors alone."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d

from tests.released_hrnet import released_maps

State = Mapping[str, Tensor]
HEADS = 4


def released_logits(
    state: State, image: Tensor, tasks: Sequence[str], space_first: bool = False
) -> dict[str, Tensor]:
    """(1, 3, H, W) -> {task: (1, outputs, H, W)} in evaluation; `state` by DeMT's names."""
    maps = released_maps(below(state, "backbone"), image)
    size = maps[0].shape[-2:]
    features = torch.cat([resized(x, size) for x in maps], 1)
    x = normed(state, "head.linear1", features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    mixed = [
        mix(below(state, f"head.defor_mixers.{i}.blocks.0"), x, space_first)
        for i in range(len(tasks))
    ]
    tokens = [y.flatten(2).transpose(1, 2) for y in mixed]  # each 1, H * W, C
    every = torch.cat(tokens, 1)
    shared = normed(state, "head.smlp", attend(below(state, "head.task_fusion"), every, every))
    folded = shared.view(len(tasks), *tokens[0].shape[1:])
    logits = {}
    for i, task in enumerate(tasks):
        found = attend(below(state, f"head.task_querys.{i}"), tokens[i], folded)
        y = tokens[i] + normed(state, f"head.smlp2.{i}", found)
        y = predict(state, task, y.transpose(1, 2).unflatten(2, size))
        logits[task] = resized(y, image.shape[-2:])
    return logits


def below(state: State, prefix: str) -> dict[str, Tensor]:
    whole = f"{prefix}."
    return {k.removeprefix(whole): v for k, v in state.items() if k.startswith(whole)}


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def normed(state: State, at: str, x: Tensor) -> Tensor:
    """A linear map, then LayerNorm, over the last dimension."""
    x = F.linear(x, state[f"{at}.0.weight"], state[f"{at}.0.bias"])
    return F.layer_norm(x, x.shape[-1:], state[f"{at}.1.weight"], state[f"{at}.1.bias"])


def batch_normed(state: State, at: str, x: Tensor) -> Tensor:
    parts = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(state[f"{at}.{part}"] for part in parts))


def mix(state: State, x: Tensor, space_first: bool) -> Tensor:
    """The channels of a pixel, and each channel at its offsets; the latter beside a shortcut."""
    conv, norm, residual = ("1", "3", "0") if space_first else ("0", "2", "3")

    def channels(x: Tensor) -> Tensor:
        x = F.conv2d(x, state[f"{conv}.weight"], state[f"{conv}.bias"])
        return batch_normed(state, norm, F.gelu(x))

    def space(x: Tensor) -> Tensor:
        own = below(state, f"{residual}.fn")
        y = deform_conv2d(x, offsets(own, x), own["0.weight"], own["0.bias"])
        return x + batch_normed(own, "2", F.gelu(y))

    return channels(space(x)) if space_first else space(channels(x))


def offsets(state: State, x: Tensor) -> Tensor:
    """Made of a learnt correction and the coordinates, from 1, of the nine neighbours."""
    height, width = x.shape[-2:]
    rows, columns = torch.meshgrid(
        torch.arange(1, height + 1), torch.arange(1, width + 1), indexing="ij"
    )
    around = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    grid = torch.stack([rows + dy for dy, _ in around] + [columns + dx for _, dx in around])
    at = "0.get_offset"
    correction = F.conv2d(x, state[f"{at}.p_conv.weight"], state[f"{at}.p_conv.bias"], padding=1)
    summed = grid.to(x) + correction
    return F.conv2d(summed, state[f"{at}.opt.weight"], state[f"{at}.opt.bias"], padding=1, groups=2)


def attend(state: State, queries: Tensor, memory: Tensor) -> Tensor:
    """Torch's attention with the batch axis taken for the sequence, as the release calls it."""
    theirs = torch.nn.MultiheadAttention(queries.shape[-1], HEADS).to(queries)
    theirs.load_state_dict(state)
    return theirs(queries, memory, memory, need_weights=False)[0]


def predict(state: State, task: str, x: Tensor) -> Tensor:
    at = f"head.bottleneck.{task}"
    x = F.conv2d(x, state[f"{at}.conv.weight"], padding=1)
    x = torch.relu(batch_normed(state, f"{at}.bn", x))
    at = f"head.final_logits.{task}"
    return F.conv2d(x, state[f"{at}.weight"], state[f"{at}.bias"])
