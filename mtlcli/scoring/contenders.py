"""What `mtl bench attention` measures: DeMT's global attention, grid_sample, and our operators, on
one image, every pixel of every task a query.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mtlcli.models.position import cell_centres
from mtlcli.ops import choice, reference
from mtlcli.scoring.cost import BILINEAR, LOCATING, SOFTMAX, WEIGHING

STRIDE = 4  # of the map that tasks exchange, from the image
LEVELS, HEADS, POINTS = 3, 4, 16
CHANNELS = 70  # of a head: (256 + 24 of position code) / 4
TOKEN_CHANNELS = 64  # of a head of DeMT's attention: 256 / 4
SPREAD = 3.0  # standard deviation of the offsets, pixels

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BACKENDS = {
    "math": SDPBackend.MATH,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
SDPA, GRID, OURS = "sdpa", "grid_sample", "ours"
PLAIN = "reference"
LINEAR = {SDPA: "sdpa_linear", OURS: "ours_linear", GRID: "ours_linear"}  # the maps around each
BACKWARD = {SDPA: 2.5}  # operations, of the forward pass's; of the others 2


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What all read, float32: M heads, N queries, S pixels of L maps, P points."""

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


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to compute attention, or the linear maps around one."""

    name: str
    family: str  # sdpa, grid_sample, ours, or one of `LINEAR`
    dtype: str
    call: Callable[[Workload, Sequence[Tensor]], Tensor]  # takes the workload and its leaves
    scratch: Callable[[Workload, bool], float] = lambda workload, backward: 0.0  # bytes

    def leaves(self, workload: Workload) -> list[Tensor]:
        """What it reads and is differentiated by."""
        dtype = DTYPES[self.dtype]
        if self.family == SDPA:
            return list(workload.tokens.to(dtype).unbind())
        if self.family in LINEAR.values():
            return linear_maps(self.family, workload, dtype)
        return [workload.value.to(dtype), workload.offsets, workload.logits]

    def flops(self, workload: Workload, backward: bool) -> float:
        """Of a pass, or of both; softmax and sampling as `mtl bench model` counts them."""
        n = workload.queries
        if self.family == SDPA:
            forward = HEADS * n * n * (4 * TOKEN_CHANNELS + SOFTMAX)
        elif self.family in LINEAR.values():
            tensors = linear_maps(self.family, workload, torch.float32)
            forward = sum(2 * len(x) * w.numel() for x, w in zip(tensors[::2], tensors[1::2]))
        else:
            each = SOFTMAX + LOCATING + (BILINEAR + WEIGHING) * CHANNELS
            forward = workload.samples * each
        return forward * (1 + backward * BACKWARD.get(self.family, 2.0))

    def error(self, workload: Workload, out: Tensor, count: int) -> float | None:
        """Relative error of some queries' outputs against float64; linear maps have none."""
        if self.family in LINEAR.values():
            return None
        rows = torch.linspace(0, workload.queries - 1, min(count, workload.queries)).long()
        rows = rows.to(out.device)
        found = by_query(out)[rows] if self.family == SDPA else out[0, rows]
        wanted = exact(self.family, workload, rows)
        return float((found.double() - wanted).norm() / wanted.norm())


def contenders(device: torch.device, dtypes: Sequence[str]) -> list[Contender]:
    """All that could run there, ours last; which of them do is seen when they are tried."""
    made = []
    for dtype in dtypes:
        for name, backend in BACKENDS.items():
            one = Contender(
                name=f"SDPA {name}", family=SDPA, dtype=dtype, call=partial(_sdpa, backend)
            )
            made.append(replace(one, scratch=_scores) if name == "math" else one)
    grid = Contender(name="grid_sample by map", family=GRID, dtype="fp32", call=_grid)
    made.append(replace(grid, scratch=_samples))
    made += [
        Contender(name=f"linear maps of {name}", family=LINEAR[family], dtype=dtype, call=_maps)
        for family, name in ((SDPA, "SDPA"), (OURS, "ours"))
        for dtype in dtypes
    ]
    ours, held = [(PLAIN, "fp32")], choice.HELD.get(device.type, ())
    for fused in choice.FUSED.get(device.type, ()):
        ours += [(fused, d) for d in dtypes if DTYPES[d] in held]
    return made + [
        Contender(name=name, family=OURS, dtype=dtype, call=partial(_named, name))
        for name, dtype in ours
    ]


def linear_maps(family: str, workload: Workload, dtype: torch.dtype) -> list[Tensor]:
    """Inputs and weights, in turns, of the linear maps around a core."""
    if family == LINEAR[SDPA]:
        width = HEADS * TOKEN_CHANNELS
        rows = [(workload.queries, 3 * width, dtype), (workload.queries, width, dtype)]
    else:  # offsets and logits are always float32
        width, samples = HEADS * CHANNELS, workload.samples // workload.queries
        rows = [(workload.queries, 3 * samples, torch.float32)]
        rows += [(workload.value.shape[1], width, dtype), (workload.queries, width, dtype)]
    made = []
    for (
        count,
        outputs,
        kind,
    ) in rows:  # random: products of constants draw less power, so run faster
        for many in (count, outputs):
            made += [torch.randn(many, width, device=workload.value.device).to(kind)]
    return made


def exact(family: str, workload: Workload, rows: Tensor) -> Tensor:
    """These queries' outputs (rows, channels) in float64, by plain PyTorch."""
    if family == SDPA:
        q, k, v = workload.tokens.double()
        return by_query(F.scaled_dot_product_attention(q[:, :, rows], k, v))
    return reference.deformable_attention(
        workload.value.double(),
        workload.shapes,
        workload.reference[rows].double(),
        workload.offsets[:, rows].double(),
        workload.logits[:, rows].double(),
    )[0]


def by_query(out: Tensor) -> Tensor:
    """Heads' outputs (1, M, N, D) as (N, M * D)."""
    return out[0].transpose(0, 1).flatten(1)


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


def _sdpa(backend: SDPBackend, workload: Workload, leaves: Sequence[Tensor]) -> Tensor:
    query, key, value = leaves
    with sdpa_kernel(backend), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a line for each backend that was not asked for
        return F.scaled_dot_product_attention(query, key, value)


def _grid(workload: Workload, leaves: Sequence[Tensor]) -> Tensor:
    return _ours(grid_sample_by_map, workload, leaves)


def _ours(operator: choice.Operator, workload: Workload, leaves: Sequence[Tensor]) -> Tensor:
    value, offsets, logits = leaves
    return operator(value, workload.shapes, workload.reference, offsets, logits)


def _named(name: str, workload: Workload, leaves: Sequence[Tensor]) -> Tensor:
    return _ours(choice.load(name), workload, leaves)  # as late as this: it may not load here


def _maps(workload: Workload, leaves: Sequence[Tensor]) -> Tensor:
    """All products; the last one, and with gradients all, as one sum."""
    out = [x @ weight.T for x, weight in zip(leaves[::2], leaves[1::2])]
    return out[-1] if not leaves[0].requires_grad else torch.stack([o.sum() for o in out])


def _scores(workload: Workload, backward: bool) -> float:
    """The N x N scores and their softmax, in float32 for halves too."""
    return (4 if backward else 2) * 4.0 * HEADS * workload.queries**2


def _samples(workload: Workload, backward: bool) -> float:
    """What is read from one map; with gradients, from all of them."""
    of_all = 4.0 * workload.samples * CHANNELS
    return of_all * (backward + (1 + backward) / len(workload.shapes))
