"""Deformable attention on an NVIDIA GPU: fused CUDA kernels behind a differentiable torch operator.

Samples are never materialised: besides the output, the forward pass keeps a copy of the value in a
layout of its own, the backward pass that and a float32 gradient of its size. Values, offsets and
logits are read as float32, bfloat16 or float16; positions, softmax and sums are float32. From
sm_80 on; the kernels are cuda_*.cu, compiled at their first call.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtlcli.errors import InputError
from mtlcli.ops import cuda_launch, standby
from mtlcli.ops.fused import Attention, Gradients, Kernels, make_operator, require

WIDEST = 128  # channels of a head that a lane's registers hold
LONGEST = 2**16 - 1  # side of a map, which kernels store in 16 bits


def deformable_attention_cuda(
    value: Tensor,
    shapes: Sequence[tuple[int, int]],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    border: str = "clamp",
) -> Tensor:
    """See `mtlcli.ops.deformable_attention`, whose checks it relies on; differentiable once.

    Wider heads than 128 channels are read in equal parts. Under torch's deterministic algorithms
    the value's gradient is a sum of integers, the same in every run; a gradient or softmax that is
    not finite makes all of it NaN then, not only where that query reads. An infinite offset reads
    the edge (`clamp`) or nothing (`zeros`); NaN makes that query's output NaN and moves no pixel of
    the value. Where a kernel fails, Triton's take over, then plain PyTorch (`mtlcli.ops.standby`).

    Raises:
        InputError: tensors that are not on one NVIDIA GPU, float64 tensors, a map with a side of
            2**16 pixels or more, or maps with 2**31 pixels.
    """
    sizes = [int(size) for shape in shapes for size in shape]
    places = (sizes, reference.detach().float(), offsets, logits, border == "clamp")
    require("cuda", Attention(value, *places))
    if any(not 0 <= size <= LONGEST for size in sizes) or value.shape[1] >= 2**31:
        raise InputError(
            f"A side of {list(shapes)} is not in 0 to {LONGEST}, or they are too many."
        )
    parts = max(1, -(-value.shape[3] // WIDEST))
    if parts == 1:
        return _attend(value, *places)[0]
    outs = [_attend(part, *places)[0] for part in value.tensor_split(parts, -1)]
    heads = value.shape[2]
    return torch.cat([out.unflatten(-1, (heads, -1)) for out in outs], -1).flatten(2)


def _forward(attention: Attention, out: Tensor, lse: Tensor) -> None:
    with torch.cuda.device_of(out):
        cuda_launch.forward(attention, out, lse)


def _backward(
    attention: Attention, grad_out: Tensor, out: Tensor, lse: Tensor, grads: Gradients
) -> None:
    with torch.cuda.device_of(out):
        cuda_launch.backward(attention, grad_out, out, lse, *grads[1:])
        grads[0].copy_(cuda_launch.scatter(attention, grad_out, lse))


def _others() -> Kernels | None:
    try:
        from mtlcli.ops.triton_gpu import KERNELS
    except ImportError as error:
        standby.give_up("triton", error)
        return None
    return KERNELS


KERNELS = Kernels(name="cuda", forward=_forward, backward=_backward, following=lambda: _others())
_attend = make_operator(KERNELS, "deformable_attention_cuda")
