"""Deformable attention on a GPU: fused Triton kernels behind a differentiable torch operator.

Samples are never materialised: besides the output, the forward pass keeps one padded copy of the
value, the backward pass that and a float32 gradient of its size. Values are read as float16,
bfloat16 or float32, offsets and logits too; positions, softmax and sums are float32.
"""

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from mtlcli.errors import InputError
from mtlcli.ops import standby
from mtlcli.ops.autograd import empty_gradients, empty_results, make_differentiable, queries_whole
from mtlcli.ops.in_order import value_gradient
from mtlcli.ops.triton_cells import pitch
from mtlcli.ops.triton_launch import Problem, differentiate, forward, log_sum_exp, scatter

STORED = (torch.float32, torch.float16, torch.bfloat16)
INTERPRETER = "TRITON_INTERPRET"
NAME = "triton"


def deformable_attention_triton(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    border: str = "clamp",
) -> Tensor:
    """See `mtlcli.ops.deformable_attention`, whose checks it relies on; differentiable once.

    Under `torch.use_deterministic_algorithms` the value's gradient is summed in order, more slowly.
    A GPU without bfloat16 computes with float32 copies. An infinite offset reads the edge (`clamp`)
    or nothing (`zeros`); NaN makes that query's output NaN. Where a kernel fails, plain PyTorch
    takes over (`mtlcli.ops.standby`).

    Raises:
        InputError: tensors that are not on one GPU, float64 tensors, or a map with 2**31 numbers.
    """
    _check(value, shapes, reference, offsets, logits)
    sizes = [int(size) for shape in shapes for size in shape]
    out, _ = _attend(
        _readable(value),
        sizes,
        reference.detach().float().contiguous(),
        _readable(offsets),
        _readable(logits),
        border == "clamp",
    )
    return out.to(value.dtype)


def _check(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
) -> None:
    tensors = {"value": value, "reference": reference, "offsets": offsets, "logits": logits}
    for name, tensor in tensors.items():
        if tensor.device != value.device:
            raise InputError(f"{name} is on {tensor.device}, but value on {value.device}.")
        if tensor.dtype not in STORED and name != "reference":
            raise InputError(
                f"{name} is {tensor.dtype}; the triton operator takes float32, float16 or bfloat16 "
                "(the `reference` operator takes float64)."
            )
    if value.device.type == "cpu" and os.environ.get(INTERPRETER, "0") != "1":
        raise InputError("value is on the CPU; the triton operator takes tensors on a GPU.")
    width = pitch(value.shape[3])
    if any(min(shape) < 0 or shape[0] * shape[1] * width >= 2**31 for shape in shapes):
        raise InputError(
            f"A map of {list(shapes)} is negative or has 2**31 numbers or more in rows of {width}."
        )


def _readable(tensor: Tensor) -> Tensor:
    if tensor.dtype == torch.bfloat16 and tensor.is_cuda and not _has_bfloat16():
        return tensor.float()
    return tensor


def _has_bfloat16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)


@torch.library.custom_op("mtl::deformable_attention_triton", mutates_args=())
def _attend(
    value: Tensor,
    sizes: Sequence[int],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    clamp: bool,
) -> tuple[Tensor, Tensor]:
    """The output (B, N, M * D) and the log-sum-exp of the logits (B, N, M)."""
    told = (value, sizes, reference, offsets, logits, clamp)
    out, lse = empty_results(*told)
    if not out.numel() or not logits.numel() or not value.numel():
        return out.zero_(), lse.zero_()

    def fused() -> tuple[Tensor, Tensor]:
        problem = _problem(*told)
        with torch.cuda.device_of(value):
            log_sum_exp(problem, lse)
            forward(problem, lse, out)
        return out, lse

    return standby.attempt(NAME, value.device, fused, lambda: standby.attend(*told))


@torch.library.custom_op("mtl::deformable_attention_triton_backward", mutates_args=())
def _differentiate(
    grad_out: Tensor,
    out: Tensor,
    lse: Tensor,
    value: Tensor,
    sizes: Sequence[int],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    clamp: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of value, offsets and logits, contiguous."""
    told = (value, sizes, reference, offsets, logits, clamp)
    grads = empty_gradients(grad_out, out, lse, *told)
    grad_value, grad_offsets, grad_logits = grads
    if not out.numel() or not logits.numel() or not value.numel():
        return grad_value.zero_(), grad_offsets.zero_(), grad_logits.zero_()

    def fused() -> tuple[Tensor, Tensor, Tensor]:
        problem = _problem(*told)
        rows = grad_out.contiguous().view(*lse.shape, -1)
        inner = (rows.float() * out.view_as(rows).float()).sum(-1)
        with torch.cuda.device_of(value):
            differentiate(problem, lse, inner, rows, grad_offsets, grad_logits)
            if torch.are_deterministic_algorithms_enabled():
                border = "clamp" if clamp else "zeros"
                places = (problem.shapes, reference, problem.offsets, problem.logits)
                grad_value.copy_(value_gradient(*places, lse, rows, border))
            else:
                grad_value.copy_(scatter(problem, lse, rows))
        return grads

    return standby.attempt(
        NAME, value.device, fused, lambda: standby.differentiate(grad_out, *told)
    )


make_differentiable(_attend, _differentiate)


def _problem(
    value: Tensor,
    sizes: Sequence[int],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    clamp: bool,
) -> Problem:
    return Problem(
        value=value.detach(),
        sizes=tuple(sizes),
        reference=reference,
        offsets=queries_whole(offsets),
        logits=queries_whole(logits),
        clamp=clamp,
    )
