"""The tensors that attention is measured on: one image, every pixel of every task a query."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlcli.models.position import cell_centres

STRIDE = 4  # of the map that tasks exchange, from the image
LEVELS, HEADS, POINTS = 3, 4, 16
CHANNELS = 70  # of a head: (256 + 24 of position code) / 4
TOKEN_CHANNELS = 64  # of a head of DeMT's attention: 256 / 4
SPREAD = 3.0  # standard deviation of the offsets, pixels


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What both blocks read, float32: M heads, N queries, S pixels of L maps, P points."""

    tasks: int
    shapes: list[tuple[int, int]]  # of the maps, level by level
    reference: Tensor  # (N, 2)
    value: Tensor  # (1, S, M, 70)
    offsets: Tensor  # (1, N, M, L, P, 2), pixels
    logits: Tensor  # (1, N, M, L, P)
    tokens: Tensor  # (3, 1, M, N, 64): query, key, value of global attention

    @property
    def queries(self) -> int:
        return len(self.reference)

    @property
    def samples(self) -> int:
        """Points read, of all heads."""
        return self.logits.numel()

    def every(self, step: int) -> "Workload":
        """The same maps, but only each step-th query; global attention has that many tokens."""
        if step <= 1:
            return self
        return replace(
            self,
            reference=self.reference[::step].contiguous(),
            offsets=self.offsets[:, ::step].contiguous(),
            logits=self.logits[:, ::step].contiguous(),
            tokens=self.tokens[:, :, :, ::step].contiguous(),
        )


def make(size: tuple[int, int], tasks: int, device: torch.device, seed: int = 0) -> Workload:
    """Random tensors for images of `size` (H, W): three maps per task, each half the one before."""
    height, width = (-(-side // STRIDE) for side in size)
    shapes = []
    for level in range(LEVELS):
        shapes += [(-(-height // 2**level), -(-width // 2**level))] * tasks
    queries, pixels = tasks * height * width, sum(h * w for h, w in shapes)
    generator = torch.Generator(device).manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    return Workload(
        tasks=tasks,
        shapes=shapes,
        reference=cell_centres(height, width, torch.empty(0, device=device)).repeat(tasks, 1),
        value=random(1, pixels, HEADS, CHANNELS),
        offsets=SPREAD * random(1, queries, HEADS, len(shapes), POINTS, 2),
        logits=random(1, queries, HEADS, len(shapes), POINTS),
        tokens=random(3, 1, HEADS, queries, TOKEN_CHANNELS),
    )


def grid_sample_by_map(
    value: Tensor, shapes: list[tuple[int, int]], reference: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    """Deformable attention of one image as usually written, with each map reduced at once."""
    share = logits.flatten(3).softmax(-1).view(logits.shape)[0]  # N, M, L, P
    heads, channels = value.shape[2:]
    parts = value[0].split([height * width for height, width in shapes])
    out = value.new_zeros(len(reference), heads, channels)
    for level, (height, width) in enumerate(shapes):
        size = reference.new_tensor([width, height])
        grid = (2 * reference - 1)[:, None, None] + 2 * offsets[0, :, :, level] / size  # N, M, P, 2
        maps = parts[level].permute(1, 2, 0).reshape(heads, channels, height, width)
        read = F.grid_sample(maps, grid.transpose(0, 1), padding_mode="border", align_corners=False)
        out = out + torch.einsum("mdnp,nmp->nmd", read, share[:, :, level])
    return out.flatten(1)[None]
