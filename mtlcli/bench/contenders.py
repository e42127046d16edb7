"""What attention is measured with: DeMT's global attention, grid_sample, and our operators."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mtlcli.bench.flops import BILINEAR, LOCATING, SOFTMAX, WEIGHING
from mtlcli.bench.workload import CHANNELS, HEADS, TOKEN_CHANNELS, Workload, grid_sample_by_map
from mtlcli.ops import choice, reference

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
class Contender:
    """One way to compute attention; `call` takes the workload and its leaves."""

    name: str
    family: str  # sdpa, grid_sample or ours
    dtype: str
    call: Callable[[Workload, Sequence[Tensor]], Tensor]
    scratch: Callable[[Workload, bool], float] = lambda workload, backward: 0.0  # bytes

    @property
    def power(self) -> int:
        """Its time grows with this power of the queries."""
        return 2 if self.family == SDPA else 1

    def leaves(self, workload: Workload) -> list[Tensor]:
        """What it reads and is differentiated by."""
        dtype = DTYPES[self.dtype]
        if self.family == SDPA:
            return list(workload.tokens.to(dtype).unbind())
        if self.family in LINEAR.values():
            return linear_maps(self.family, workload, dtype)
        return [workload.value.to(dtype), workload.offsets, workload.logits]

    def flops(self, workload: Workload) -> float:
        """Of the forward pass; softmax and sampling as `mtl bench model` counts them."""
        n = workload.queries
        if self.family == SDPA:
            return HEADS * n * n * (4 * TOKEN_CHANNELS + SOFTMAX)
        if self.family in LINEAR.values():
            tensors = linear_maps(self.family, workload, torch.float32)
            return sum(2 * len(x) * w.numel() for x, w in zip(tensors[::2], tensors[1::2]))
        return workload.samples * (SOFTMAX + LOCATING + (BILINEAR + WEIGHING) * CHANNELS)

    def traffic(self, workload: Workload, backward: bool) -> float:
        """The least bytes: each input read and each output written once in each direction."""
        leaves = self.leaves(workload)
        read = sum(leaf.nbytes for leaf in leaves)
        channels = TOKEN_CHANNELS if self.family == SDPA else CHANNELS
        written = workload.queries * HEADS * channels * DTYPES[self.dtype].itemsize
        if self.family in LINEAR.values():
            pairs = zip(leaves[::2], leaves[1::2])
            written = sum(len(x) * len(weight) * x.element_size() for x, weight in pairs)
        # backward reads the inputs, the output and its gradient, and writes the inputs' gradients
        return read + written + backward * (2 * read + 2 * written)


def contenders(device: torch.device, dtypes: Sequence[str]) -> list[Contender]:
    """All that could run there, ours last; which of them do is seen when they are tried."""
    made = [
        Contender(
            name=f"SDPA {name}",
            family=SDPA,
            dtype=dtype,
            call=_sdpa(backend),
            scratch=_scores if name == "math" else lambda workload, backward: 0.0,
        )
        for dtype in dtypes
        for name, backend in BACKENDS.items()
    ]
    made.append(
        Contender(
            name="grid_sample by map", family=GRID, dtype="fp32", call=_grid, scratch=_samples
        )
    )
    made += [
        Contender(name=f"linear maps of {name}", family=LINEAR[family], dtype=dtype, call=_maps)
        for family, name in ((SDPA, "SDPA"), (OURS, "ours"))
        for dtype in dtypes
    ]
    made.append(_ours(PLAIN, "fp32"))
    fused = choice.FUSED.get(device.type)
    if fused:
        name, held = fused
        made += [_ours(name, dtype) for dtype in dtypes if DTYPES[dtype] in held]
    return made


def linear_maps(family: str, workload: Workload, dtype: torch.dtype) -> list[Tensor]:
    """Inputs and weights, in turns, of the linear maps around a core."""
    if family == LINEAR[SDPA]:
        width = HEADS * TOKEN_CHANNELS
        rows = [(workload.queries, 3 * width, dtype), (workload.queries, width, dtype)]
    else:  # offsets and logits are always float32
        width, samples = HEADS * CHANNELS, workload.samples // workload.queries
        rows = [(workload.queries, 3 * samples, torch.float32)]
        rows += [(workload.value.shape[1], width, dtype), (workload.queries, width, dtype)]
    device = workload.value.device
    made = []
    for count, outputs, kind in rows:
        made += [torch.ones(count, width, dtype=kind, device=device)]
        made += [torch.full((outputs, width), 1 / width, dtype=kind, device=device)]
    return made


def exact(family: str, workload: Workload, rows: Tensor) -> Tensor:
    """The rows of the output in float64, by plain PyTorch."""
    if family == SDPA:
        q, k, v = workload.tokens.double()
        return F.scaled_dot_product_attention(q[:, :, rows], k, v)[0].transpose(0, 1).flatten(1)
    return reference.deformable_attention(
        workload.value.double(),
        workload.shapes,
        workload.reference[rows].double(),
        workload.offsets[:, rows].double(),
        workload.logits[:, rows].double(),
    )[0]


def rows_of(family: str, out: Tensor, rows: Tensor) -> Tensor:
    """These queries' channels of a contender's output, (rows, channels) float64."""
    if family == SDPA:
        return out[0, :, rows].transpose(0, 1).flatten(1).double()
    return out[0, rows].double()


def _sdpa(backend: SDPBackend) -> Callable[[Workload, Sequence[Tensor]], Tensor]:
    def call(workload: Workload, leaves: Sequence[Tensor]) -> Tensor:
        query, key, value = leaves
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(query, key, value)

    return call


def _grid(workload: Workload, leaves: Sequence[Tensor]) -> Tensor:
    value, offsets, logits = leaves
    return grid_sample_by_map(value, workload.shapes, workload.reference, offsets, logits)


def _maps(workload: Workload, leaves: Sequence[Tensor]) -> Tensor:
    """All products; the last one, and with gradients all, as one sum."""
    out = [x @ weight.T for x, weight in zip(leaves[::2], leaves[1::2])]
    return out[-1] if not leaves[0].requires_grad else torch.stack([o.sum() for o in out])


def _ours(name: str, dtype: str) -> Contender:
    def call(workload: Workload, leaves: Sequence[Tensor]) -> Tensor:
        value, offsets, logits = leaves
        operator = choice.load(name)
        return operator(value, workload.shapes, workload.reference, offsets, logits)

    return Contender(name=name, family=OURS, dtype=dtype, call=call)


def _scores(workload: Workload, backward: bool) -> float:
    """The N x N scores and their softmax, in float32 for halves too."""
    return (4 if backward else 2) * 4.0 * HEADS * workload.queries**2


def _samples(workload: Workload, backward: bool) -> float:
    """What is read from one map; with gradients, from all of them."""
    of_all = 4.0 * workload.samples * CHANNELS
    return of_all + 2 * of_all / len(workload.shapes) if backward else of_all / len(workload.shapes)
