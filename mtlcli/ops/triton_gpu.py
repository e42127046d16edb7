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
from mtlcli.ops.fused import Attention, Gradients, Kernels, make_operator, require
from mtlcli.ops.in_order import value_gradient
from mtlcli.ops.triton_cells import pitch
from mtlcli.ops.triton_launch import differentiate, forward, log_sum_exp, scatter

INTERPRETER = "TRITON_INTERPRET"


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
    sizes = [int(size) for shape in shapes for size in shape]
    points = reference.detach().float().contiguous()
    _check(Attention(value, sizes, reference, offsets, logits, border == "clamp"))
    read = (_readable(value), sizes, points, _readable(offsets), _readable(logits))
    return _attend(*read, border == "clamp")[0].to(value.dtype)


def _check(attention: Attention) -> None:
    require("triton", attention)
    if attention.value.device.type == "cpu" and os.environ.get(INTERPRETER, "0") != "1":
        raise InputError("value is on the CPU; the triton operator takes tensors on a GPU.")
    width, shapes = pitch(attention.value.shape[3]), attention.shapes
    if any(min(shape) < 0 or shape[0] * shape[1] * width >= 2**31 for shape in shapes):
        raise InputError(
            f"A map of {shapes} is negative or has 2**31 numbers or more in rows of {width}."
        )


def _readable(tensor: Tensor) -> Tensor:
    if tensor.dtype == torch.bfloat16 and tensor.is_cuda and not _has_bfloat16():
        return tensor.float()
    return tensor


def _has_bfloat16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)


def _forward(attention: Attention, out: Tensor, lse: Tensor) -> None:
    with torch.cuda.device_of(out):
        log_sum_exp(attention, lse)
        forward(attention, lse, out)


def _backward(
    attention: Attention, grad_out: Tensor, out: Tensor, lse: Tensor, grads: Gradients
) -> None:
    grad_value, grad_offsets, grad_logits = grads
    rows = grad_out.contiguous().view(*lse.shape, -1)
    inner = (rows.float() * out.view_as(rows).float()).sum(-1)
    with torch.cuda.device_of(out):
        differentiate(attention, lse, inner, rows, grad_offsets, grad_logits)
        if torch.are_deterministic_algorithms_enabled():
            grad_value.copy_(value_gradient(attention, lse, grad_out))
        else:
            grad_value.copy_(scatter(attention, lse, rows))


KERNELS = Kernels(name="triton", forward=_forward, backward=_backward)
_attend = make_operator(KERNELS, "deformable_attention_triton")
