"""Sampled channels: every number of a map read at an offset of its own, as DeMT's mixers do.

A deformable convolution with a 1x1 kernel and one offset group for each channel. On NVIDIA GPUs
kernels of ours move 16 bytes for each number; `grid_sample`, with what turns steps into shares of
the map, moves 112 (counted), and has no deterministic gradient there. On the CPU it stays: it takes
2.5 % of a training step.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlcli.ops import choice, standby
from mtlcli.ops.gather import sample_planes

NAME = "channel"  # of the kernels, where others must stand by for them
MOST = 2**31 - 1  # blocks of a launch, numbers of a plane and its offsets


def sample_channels(x: Tensor, offsets: Tensor) -> Tensor:
    """Channel c of pixel (i, j) read bilinearly at (i + offsets[2c], j + offsets[2c + 1]).

    Differentiable once. At whole pixels the gradient is the one to the right. Infinity is a point
    far away; NaN makes that number NaN and moves no pixel.

    Args:
        x: (B, C, H, W).
        offsets: (B, 2C, H, W) in pixels. Points outside the map read zero.
    """
    if _is_fused(x, offsets):
        return _operator(x, offsets)
    return sample_plainly(x, offsets)


def sample_plainly(x: Tensor, offsets: Tensor) -> Tensor:
    """The same in PyTorch's operators, of finite offsets: those that files hold, on export, and
    those with a deterministic gradient where only such are allowed.
    """
    batch, channels, height, width = x.shape
    dy, dx = offsets.reshape(batch * channels, 2, height, width).unbind(1)
    y = torch.arange(height, dtype=x.dtype, device=x.device)[:, None] + dy
    x_at = torch.arange(width, dtype=x.dtype, device=x.device) + dx
    in_order = x.is_cuda and torch.are_deterministic_algorithms_enabled()
    if in_order or choice.exported_sampling() == "gather":
        return sample_planes(x.flatten(0, 1), x_at, y).view(x.shape)
    grid = torch.stack(((2 * x_at + 1) / width - 1, (2 * y + 1) / height - 1), -1)
    planes = x.reshape(batch * channels, 1, height, width)
    return F.grid_sample(planes, grid, align_corners=False).view(x.shape)


def _is_fused(x: Tensor, offsets: Tensor) -> bool:
    if x.dtype != torch.float32 or offsets.dtype != torch.float32 or x.device != offsets.device:
        return False
    batch, channels, height, width = x.shape
    if height * width * 2 > MOST or x.numel() // 128 + batch * channels > MOST:
        return False
    return x.is_meta or (x.is_cuda and choice.named(x) == "cuda")


def read(x: Tensor, offsets: Tensor) -> Tensor:
    """What the operator computes."""
    x, offsets = x.detach().contiguous(), offsets.detach().contiguous()
    out = torch.empty_like(x)
    if not out.numel():
        return out

    def fused() -> Tensor:
        from mtlcli.ops import cuda_channels

        cuda_channels.read(x, offsets, out)
        return out

    return standby.attempt(NAME, x.device, fused, lambda: sample_plainly(x, offsets))


def differentiate(grad_out: Tensor, x: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """What its partner computes: the gradients of x and offsets."""
    grad_out, x, offsets = (t.detach().contiguous() for t in (grad_out, x, offsets))
    grads = torch.empty_like(x), torch.empty_like(offsets)
    if not x.numel():
        return grads

    def fused() -> tuple[Tensor, Tensor]:
        from mtlcli.ops import cuda_channels

        cuda_channels.differentiate(grad_out, x, offsets, *grads)
        return grads

    def instead() -> tuple[Tensor, Tensor]:
        pull: Any = torch.func.vjp(sample_plainly, x, offsets)[1]
        return pull(grad_out)

    return standby.attempt(NAME, x.device, fused, instead)


_operator = torch.library.custom_op(
    "mtl::sample_channels", read, mutates_args=(), schema="(Tensor x, Tensor offsets) -> Tensor"
)
_partner = torch.library.custom_op(
    "mtl::sample_channels_backward",
    differentiate,
    mutates_args=(),
    schema="(Tensor grad_out, Tensor x, Tensor offsets) -> (Tensor, Tensor)",
)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor]:
    return _partner(grad_out, *ctx.saved_tensors)


def _refuse(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError("Sampled channels can be differentiated once only; no second derivatives.")


def _like(*tensors: Tensor) -> list[Tensor]:
    return [torch.empty_like(t, memory_format=torch.contiguous_format) for t in tensors]


_operator.register_fake(lambda x, offsets: _like(x)[0])
_operator.register_autograd(_backward, setup_context=_save)
_partner.register_fake(lambda grad_out, x, offsets: tuple(_like(x, offsets)))
_partner.register_autograd(_refuse)

OPERATOR = torch.ops.mtl.sample_channels
