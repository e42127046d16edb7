"""Launches of the CUDA kernels that read and differentiate sampled channels."""

import ctypes

import torch
from torch import Tensor

from mtlcli.ops import cuda_launch
from mtlcli.ops.cuda_compile import Code

THREADS = 256
BLOCKS = 8  # on a multiprocessor, for the memory that they share: none
BITS, LARGEST = 61, 120  # of a sum's absolute value; exponent of the largest scale


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
    scale = integer_scale(grad_out, x[0, 0].numel()) if exact else x.new_ones(())
    sums = torch.zeros_like(x, dtype=torch.int64 if exact else torch.float32)
    told = (grad_out, x, offsets, scale, sums, grad_offsets)
    _launch("differentiate_channels", x, exact, *told)
    grad_x.copy_(sums.double() / scale if exact else sums)


def integer_scale(numbers: Tensor, terms: int) -> Tensor:
    """A power of two, () float32: sums of `terms` of the numbers, each with a weight of at most 1,
    times that fit in 64 bits. NaN if one of the numbers is not finite.
    """
    most = numbers.abs().amax()
    exponent = BITS - terms.bit_length() - torch.frexp(most).exponent
    scale = torch.exp2(exponent.clamp(max=LARGEST).float())
    return torch.where(most.isfinite(), scale, torch.nan)


def _launch(name: str, x: Tensor, exact: bool, *tensors: Tensor) -> None:
    batch, channels, height, width = x.shape
    macros = (("CLAMP", 0), ("THREADS", THREADS), ("EXACT", int(exact)))
    code = Code(source="cuda_channels.cu", macros=macros)
    blocks = batch * channels * -(-height * width // THREADS)
    sizes = ctypes.c_int(height), ctypes.c_int(width)
    with torch.cuda.device_of(x):
        kernel = cuda_launch.load(code, name, x.device, THREADS, 0, BLOCKS)
        kernel(blocks, [*map(cuda_launch.pointer, tensors), *sizes])
