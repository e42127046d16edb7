"""How the CUDA kernels are cut, and their launches."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mtlcli.ops.cuda_compile import Code
from mtlcli.ops.cuda_driver import RESERVED, load, shared_memory
from mtlcli.ops.fused import Attention
from mtlcli.ops.raster import map_table, raster

TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
LINE, UNIT, FEW = 128, 16, 2  # bytes of a row that are read together; units that stay units
PLAIN = 256  # threads of the kernels that only walk through memory
BINS = 2560  # of the sort in cuda_scatter.cu
MEMORY = 228 * 1024  # bytes that the blocks on a multiprocessor share, of an H100
BITS, LARGEST = 61, 120  # of integer sums, without their sign; exponent of the largest scale


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How a kernel is cut."""

    queries: int  # of a tile
    threads: int  # of a block
    blocks: int  # on a multiprocessor
    shared: int = 0  # bytes of a block


class Problem(ctypes.Structure):
    """`Problem` of cuda_cells.cu, field by field."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("maps", "reference", "offsets", "logits")),
        *((f"{name}_per_{of}", ctypes.c_longlong) for name in ("offsets", "logits")
          for of in ("image", "query")),
        *((name, ctypes.c_int) for name in ("queries", "height", "width")),
        *((name, ctypes.c_int) for name in ("rows", "heads", "levels")),
    )  # fmt: skip


def row_layout(channels: int, size: int) -> tuple[int, int]:
    """Whole lines, and units after them, that hold the channels of `size` bytes.

    A rest of more than two units becomes a line: lanes that read it together then do not want the
    same banks.
    """
    units = -(-channels * size // UNIT)
    lines, rest = divmod(units, LINE // UNIT)
    return (lines + 1, 0) if rest > FEW else (lines, rest)


def packed_bytes(channels: int, size: int, rows: int) -> int:
    """Of one head of an image; `Rows` of cuda_cells.cu."""
    lines, units = row_layout(channels, size)
    return (rows + 8) // 8 * 8 * (LINE * lines + UNIT * units)


def forward_cut() -> Cut:
    """A warp serves four queries and keeps 64 records of 24 bytes."""
    return Cut(queries=48, threads=384, blocks=2, shared=12 * 64 * 24)


def differentiate_cut() -> Cut:
    """A warp takes one query after the other; more warps would find too few registers."""
    return Cut(queries=128, threads=384, blocks=2)


def scatter_cut(
    channels: int, points: int, size: int, exact: bool = False, memory: int = MEMORY
) -> Cut:
    """What is sorted and the gradients of the queries lie in shared memory, `Block` of its file.

    Where a multiprocessor's `memory` would hold one block alone, blocks are half as large, so that
    one works while another sorts; of exact sums, which take twice the registers, it is one.
    """
    padded, threads = -(-channels // 8) * 8, 288

    def shared(queries: int) -> int:
        entries = 2 * queries * min(points, 16)
        used = entries * (12 if size == 4 else 8) + queries * (padded * size + 4)
        return -(-(used + 2 * BINS + 16 + threads // 32 * 4) // 16) * 16

    queries = 64 if padded * size > 320 else 128
    alone = memory < 2 * (shared(queries) + RESERVED)
    blocks = 4 if size < 4 else 2  # that registers have to suffice for
    if exact:
        blocks = 1 if alone else 2
    elif alone:
        queries = 64
    return Cut(queries=queries, threads=threads, blocks=blocks, shared=shared(queries))


def tile(queries: int, copies: int, height: int) -> tuple[int, int, int]:
    """Copies of the raster, rows and columns of a tile of so many queries, which fit together."""
    if height == 1:
        return 1, 1, queries
    of_copies = next(n for n in (4, 2, 1) if copies % n == 0)
    tall = 4 if of_copies > 1 else 8
    return of_copies, tall, queries // of_copies // tall


def forward(attention: Attention, out: Tensor, lse: Tensor) -> None:
    """Fill `out` (B, N, M * D) and `lse` (B, N, M)."""
    launch = Launch(attention)
    launch.tiles("cuda_forward.cu", "forward", forward_cut(), 1, launch.pack(), out, lse)


def backward(
    attention: Attention,
    grad_out: Tensor,
    out: Tensor,
    lse: Tensor,
    grad_offsets: Tensor,
    grad_logits: Tensor,
) -> None:
    """Fill the last two, contiguous like offsets and logits."""
    launch = Launch(attention)
    source, cut = "cuda_differentiate.cu", differentiate_cut()
    gradient, inner = whole(grad_out), torch.empty_like(lse)
    rows = ctypes.c_longlong(lse.numel())
    launch.plain(source, "inner", cut, 8 * lse.numel(), gradient, whole(out), inner, rows)
    read = (launch.pack(), lse, inner, gradient)
    chunks = -(-attention.logits[0, 0, 0].numel() // 32)
    launch.tiles(source, "differentiate", cut, chunks, *read, grad_offsets, grad_logits)


def scatter(attention: Attention, grad_out: Tensor, lse: Tensor) -> Tensor:
    """The value's gradient, float32 (B, S, M, D), a view. Sums come in any order; under torch's
    deterministic algorithms they are of integers, the same in every run, and NaN if a number that
    they are made of is not finite.
    """
    batch, rows, heads, channels = attention.value.shape
    exact = torch.are_deterministic_algorithms_enabled()
    size = (batch, heads, rows, -(-channels // 8) * 8)
    sums = lse.new_zeros(size, dtype=torch.int64 if exact else torch.float32)
    scale = integer_scale(grad_out, lse.shape[1], lse) if exact else lse
    points, item = attention.logits.shape[4], attention.value.element_size()
    cut = scatter_cut(channels, points, item, exact, shared_memory(sums.device))
    tensors = (lse, whole(grad_out), scale, sums)
    launch, maps = Launch(attention, exact), len(attention.shapes)
    launch.tiles("cuda_scatter.cu", "scatter", cut, maps, *tensors)
    return (counted(sums, scale) if exact else sums)[..., :channels].transpose(1, 2)


def integer_scale(numbers: Tensor, terms: int, *others: Tensor) -> Tensor:
    """A power of two, () float32: sums of `terms` of the numbers, each with a weight of at most 1,
    times that fit in 64 bits. NaN if one of the numbers or of the others is not finite.
    """
    most = numbers.abs().amax().float()
    exponent = BITS - terms.bit_length() - torch.frexp(most).exponent
    scale = torch.exp2(exponent.clamp(max=LARGEST).float())
    for each in (most, *others):
        scale = torch.where(each.isfinite().all(), scale, torch.nan)
    return scale


def counted(sums: Tensor, scale: Tensor) -> Tensor:
    """Integer sums as the float32 numbers that they stand for."""
    return sums.double().div_(scale).float()


class Launch:
    """Launches the kernels of one attention: what they are compiled for and told."""

    def __init__(self, attention: Attention, exact: bool = False) -> None:
        self.value = whole(attention.value)
        offsets, logits = by_query(attention.offsets, 2), by_query(attention.logits, 1)
        batch, queries, heads, levels, points = logits.shape
        self.height, self.width = raster(attention.shapes, queries)
        self.copies = queries // (self.height * self.width)
        self.images = batch * heads
        maps = map_table(tuple(attention.sizes), self.value.device)
        self.kept = (maps, whole(attention.reference), offsets, logits)
        self.problem = Problem(
            *(tensor.data_ptr() for tensor in self.kept),
            *offsets.stride()[:2],
            *logits.stride()[:2],
            *(queries, self.height, self.width),
            *(self.value.shape[1], heads, levels),
        )
        lines, units = row_layout(self.value.shape[3], self.value.element_size())
        self.macros = {
            "D": self.value.shape[3],
            "P": points,
            "CLAMP": int(attention.clamp),
            "VALUE": TYPES[self.value.dtype],
            "OFFSET": TYPES[offsets.dtype],
            "LOGIT": TYPES[logits.dtype],
            "LINES": lines,
            "UNITS": units,
            "EXACT": int(exact),
        }

    def pack(self) -> Tensor:
        """The value as `Rows` of cuda_cells.cu, in a new tensor."""
        batch, rows, heads, channels = self.value.shape
        size = self.value.element_size()
        each = packed_bytes(channels, size, rows)
        packed = self.value.new_empty(batch, heads, each // size)
        sizes = (ctypes.c_int(batch), ctypes.c_int(rows), ctypes.c_int(heads))
        units = batch * heads * each // UNIT
        self.plain("cuda_forward.cu", "pack", forward_cut(), units, self.value, packed, *sizes)
        return packed

    def plain(self, source: str, kernel: str, cut: Cut, threads: int, *arguments: Any) -> None:
        """A kernel with so many threads, of a file that is compiled for this cut."""
        plain = replace(cut, threads=PLAIN, shared=0)
        self._run(self.code(source, cut), kernel, plain, -(-threads // PLAIN), arguments)

    def tiles(self, source: str, kernel: str, cut: Cut, parts: int, *arguments: Any) -> None:
        """A kernel with a block for each image, head, part and tile of queries, tiles fastest."""
        of_copies, tall, wide = tile(cut.queries, self.copies, self.height)
        tiles = -(-self.copies // of_copies) * -(-self.height // tall) * -(-self.width // wide)
        blocks = self.images * parts * tiles
        self._run(self.code(source, cut), kernel, cut, blocks, (self.problem, *arguments))

    def code(self, source: str, cut: Cut) -> Code:
        """A file, compiled for this attention."""
        sizes = zip(("COPIES", "TALL", "WIDE"), tile(cut.queries, self.copies, self.height))
        macros = self.macros | dict(sizes) | {"THREADS": cut.threads, "BLOCKS": cut.blocks}
        return Code(source=source, macros=tuple(macros.items()))

    def _run(
        self, code: Code, kernel: str, cut: Cut, blocks: int, arguments: Sequence[Any]
    ) -> None:
        launch = load(code, kernel, self.value.device, cut.threads, cut.shared, cut.blocks)
        launch(blocks, [pointer(a) if isinstance(a, Tensor) else a for a in arguments])


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    """To its first number."""
    return ctypes.c_void_p(tensor.data_ptr())


def whole(tensor: Tensor) -> Tensor:
    """The same, contiguous from an address that 16 bytes divide; a copy only where it must be."""
    tensor = tensor.detach().contiguous()
    return tensor.clone() if tensor.data_ptr() % UNIT else tensor


def by_query(tensor: Tensor, numbers: int) -> Tensor:
    """The same (B, N, ...), a copy only where so many numbers of a query are not aligned."""
    strides = [step for step, count in zip(tensor.stride()[:2], tensor.shape) if count > 1]
    odd = tensor.data_ptr() % (numbers * tensor.element_size())
    if odd or any(step % numbers for step in strides):
        return tensor.clone(memory_format=torch.contiguous_format)
    return tensor
