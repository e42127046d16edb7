"""Deformable attention on the CPU: fused numba kernels behind a differentiable torch operator.

Samples are never materialised: besides the output the forward pass keeps one padded float32 copy of
the value, the backward pass two padded maps for each thread. Results do not depend on the number of
threads. float32 and bfloat16 tensors are read and written as they are, in any mixture.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mtlcli.errors import InputError
from mtlcli.ops.fused import Attention, Gradients, Kernels, make_operator, require
from mtlcli.ops.numba_backward import backward
from mtlcli.ops.numba_cells import MOST, TILE, Problem, Rows, tile_order
from mtlcli.ops.numba_forward import forward
from mtlcli.ops.numba_lanes import LANES
from mtlcli.ops.numba_launch import compiled, edition, run_units

STORED = (torch.float32, torch.bfloat16)
GROUP_NUMBERS = 2**18  # floats of the maps that a thread of the backward pass walks at once: 1 MB
UNITS_PER_THREAD = 4  # at least, so that threads finish together
BLOCK = 32  # queries of a block: the pixels they share on a map stay in the cache
MOST_TILES = 1024  # along a side: enough for maps of 8192 pixels, and a small table for any


def deformable_attention_numba(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    border: str = "clamp",
) -> Tensor:
    """See `mtlcli.ops.deformable_attention`; CPU tensors, differentiable once.

    Positions, softmax and sums are float32 whatever the tensors' types, under autocast too. An
    infinite offset reads the edge (`clamp`) or nothing (`zeros`); NaN makes that query's output NaN
    and moves no sample (its own gradient is zero). Where a kernel fails, plain PyTorch takes over
    (`mtlcli.ops.standby`).

    Raises:
        InputError: tensors that are not on the CPU, float64 tensors, shapes that do not agree, or a
            map of 2**31 pixels or more.
    """
    sizes = [int(size) for shape in shapes for size in shape]
    places = (sizes, reference.detach().float(), _stored(offsets), _stored(logits))
    _check(Attention(value, sizes, reference, offsets, logits, border == "clamp"))
    attend = KERNELS.attend if _is_bare(value) else _attend
    return attend(_stored(value), *places, border == "clamp")[0].to(value.dtype)


def _is_bare(value: Tensor) -> bool:
    """Whether nobody asks for gradients, traces or fakes tensors, so that torch need not know of
    the operator: its first call of a custom operator imports the compiler, which takes seconds.
    """
    if torch.compiler.is_compiling():
        return False
    return type(value) is Tensor and torch.is_inference_mode_enabled()


def _stored(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype in STORED else tensor.float()


def _check(attention: Attention) -> None:
    """Refuse what the kernels, which check nothing, would read outside of memory."""
    if attention.value.device.type != "cpu":
        raise InputError(
            f"value is on {attention.value.device}; the numba operator takes CPU tensors."
        )
    require("numba", attention)
    shapes, logits, offsets = attention.shapes, attention.logits, attention.offsets
    pixels = sum(height * width for height, width in shapes)
    batch, rows, heads, _ = attention.value.shape
    queries, points = logits.shape[1], logits.shape[-1]
    whole = (batch, queries, heads, len(shapes), points)
    found = (rows, attention.reference.shape, logits.shape, offsets.shape)
    if found != (pixels, (queries, 2), whole, (*whole, 2)):
        raise InputError(
            f"The maps {shapes} need {pixels} value rows, reference {(queries, 2)}, logits "
            f"{whole} and offsets {(*whole, 2)}, not {rows}, "
            f"{', '.join(str(tuple(shape)) for shape in found[1:])}."
        )
    if any(min(shape) < 0 or shape[0] * shape[1] >= 2**31 for shape in shapes):
        raise InputError(f"A map of {shapes} is negative or has 2**31 pixels or more.")
    if points > MOST:
        raise InputError(f"{points} points on a map are more than the numba operator's {MOST}.")


def _forward(attention: Attention, out: Tensor, lse: Tensor) -> None:
    batch, rows, heads, channels = attention.value.shape
    problem = _problem(attention)
    width = len(problem.vectors) * LANES
    padded = attention.value.new_zeros(batch, heads, rows, width, dtype=torch.float32)
    padded[..., :channels] = attention.value.detach().transpose(1, 2)
    units = batch * heads * -(-len(problem.order) // problem.block)
    places = (_rows(attention.offsets), _rows(attention.logits))
    run_units(forward, units, _flat(padded), problem, *places, _flat(out), _flat(lse))


def _backward(
    attention: Attention, grad_out: Tensor, out: Tensor, lse: Tensor, grads: Gradients
) -> None:
    problem = _problem(attention)
    inner = (grad_out.float() * out.float()).view(*lse.shape, -1).sum(-1)
    heads = lse.shape[0] * problem.heads
    groups = _groups(problem.maps, len(problem.vectors) * LANES, heads)
    run_units(
        backward,
        heads * len(groups),
        _flat(attention.value),
        problem,
        groups,
        _rows(attention.offsets),
        _rows(attention.logits),
        _flat(lse),
        _flat(inner),
        _flat(grad_out),
        *(_flat(grad) for grad in grads),
    )


KERNELS = Kernels(name="numba", forward=_forward, backward=_backward)
_attend = make_operator(KERNELS, "deformable_attention_cpu", "cpu")


def _problem(attention: Attention) -> Problem:
    shapes = np.array(attention.sizes, np.int64).reshape(-1, 2)
    areas = shapes.prod(1)
    rows, columns = np.minimum(-(-shapes.max(0) // TILE), MOST_TILES).tolist()
    points = np.ascontiguousarray(attention.reference.detach().numpy())
    _, pixels, heads, channels = attention.value.shape
    samples = attention.logits.shape[-1]
    return Problem(
        maps=np.column_stack((shapes, areas.cumsum() - areas)),
        reference=points,
        order=compiled(tile_order)(points, max(columns, 1), max(rows, 1)),
        block=min(BLOCK, MOST // samples),
        rows=pixels,
        heads=heads,
        points=samples,
        channels=channels,
        clamp=attention.clamp,
        vectors=(0,) * -(-channels // LANES),
        edition=edition(),
    )


def _groups(maps: np.ndarray, width: int, heads: int) -> np.ndarray:
    """First and last map of groups that a core's cache can hold, enough of them for all threads.

    maps: int64 (L, 3) of height, width, first row; width: of a padded row; heads: of all images.
    """
    wanted = max(1, UNITS_PER_THREAD * torch.get_num_threads() // heads)
    areas = (maps[:, 0] * maps[:, 1]).tolist()
    most = min(GROUP_NUMBERS // width, -(-sum(areas) // wanted))
    firsts, filled = [0], 0
    for level, area in enumerate(areas):
        if filled and filled + area > most:
            firsts.append(level)
            filled = 0
        filled += area
    return np.column_stack((firsts, [*(level - 1 for level in firsts[1:]), len(areas) - 1]))


def _flat(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor as a flat array, bfloat16 as int16; no copy if it is contiguous."""
    numbers = tensor.detach().contiguous().view(-1)
    return (numbers.view(torch.int16) if tensor.dtype == torch.bfloat16 else numbers).numpy()


def _rows(tensor: Tensor) -> Rows:
    """A tensor (B, N, ...) that may be a slice of a wider projection, without a copy of it."""
    per_image, per_query = tensor.stride()[:2]
    batch, queries = tensor.shape[:2]
    span = (batch - 1) * per_image + (queries - 1) * per_query + tensor[0, 0].numel()
    return Rows(_flat(tensor.as_strided((span,), (1,))), per_image, per_query)
