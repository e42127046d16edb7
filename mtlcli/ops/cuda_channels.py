"""Launches of the CUDA kernels that read and differentiate sampled channels."""

import ctypes

import torch
from torch import Tensor

from mtlcli.ops import cuda_launch
from mtlcli.ops.cuda_compile import Code

THREADS = 256
BLOCKS = 8  # on a multiprocessor, for the memory that they share: none


def read(x: Tensor, offsets: Tensor, out: Tensor) -> None:
    """Fill `out`; all (B, C, H, W) and (B, 2C, H, W) float32, contiguous, none empty."""
    _launch("read_channels", x, False, x, offsets, out)


def differentiate(
    grad_out: Tensor, x: Tensor, offsets: Tensor, grad_x: Tensor, grad_offsets: Tensor
) -> None:
    """Fill the last two. Under torch's deterministic algorithms the gradient of x is a sum of
    integers, the same in every run; one that is not finite anywhere makes all of it NaN then.
    """
    exact = torch.are_deterministic_algorithms_enabled()
    scale = cuda_launch.integer_scale(grad_out, x[0, 0].numel()) if exact else x.new_ones(())
    sums = torch.zeros_like(x, dtype=torch.int64 if exact else torch.float32)
    told = (grad_out, x, offsets, scale, sums, grad_offsets)
    _launch("differentiate_channels", x, exact, *told)
    grad_x.copy_(cuda_launch.counted(sums, scale) if exact else sums)


def _launch(name: str, x: Tensor, exact: bool, *tensors: Tensor) -> None:
    batch, channels, height, width = x.shape
    macros = (("CLAMP", 0), ("THREADS", THREADS), ("EXACT", int(exact)))
    code = Code(source="cuda_channels.cu", macros=macros)
    blocks = batch * channels * -(-height * width // THREADS)
    sizes = ctypes.c_int(height), ctypes.c_int(width)
    with torch.cuda.device_of(x):
        kernel = cuda_launch.load(code, name, x.device, THREADS, 0, BLOCKS)
        kernel(blocks, [*map(cuda_launch.pointer, tensors), *sizes])
