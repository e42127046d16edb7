"""Which implementation of deformable attention computes: by device, or as $MTL_ATTENTION says."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from mtlcli.errors import InputError
from mtlcli.ops import gather, grid_sample, reference, standby

Operator = Callable[..., Tensor]
Sampling = Literal["gather", "grid_sample"]
IMPLEMENTATIONS = ("reference", "gather", "grid_sample", "numba", "triton", "cuda")
FUSED = {"cpu": ("numba",), "cuda": ("cuda", "triton")}  # device -> its kernels, best first
HELD = {  # types of value that they are taken for
    "cpu": (torch.float32, torch.bfloat16),
    "cuda": (torch.float32, torch.bfloat16, torch.float16),
}
FEW = 2**27  # numbers that plain PyTorch reads in less time than numba's kernels take to load
OLDEST = (8, 0)  # compute capability that the CUDA kernels are written for
VARIABLE = "MTL_ATTENTION"

_loaded: dict[str, Operator] = {
    "reference": reference.deformable_attention,
    "gather": gather.deformable_attention,
    "grid_sample": grid_sample.deformable_attention,
}


def choose(value: Tensor) -> Operator:
    """The operator for tensors like `value`, by `named`."""
    return load(named(value))


@contextmanager
def in_haste() -> Iterator[None]:
    """Within it `first` may choose: for work that may end sooner than kernels are loaded."""
    global _left
    before, _left = _left, FEW
    try:
        yield
    finally:
        _left = before


_left = 0  # numbers that may still be read in haste


def first(value: Tensor, offsets: Tensor) -> Operator | None:
    """Plain PyTorch within `in_haste`, as long as all its calls are done before numba's kernels
    would be loaded and nobody asked for these.
    """
    global _left
    if not _left or "numba" in _loaded:  # as in all of a training: nothing else is looked up then
        return None
    if os.environ.get(VARIABLE, "auto") != "auto" or named(value) != "numba":
        return None
    numbers = offsets.numel() // 2 * value.shape[-1]
    if numbers > _left or offsets.requires_grad or not offsets.isfinite().all():
        return None
    _left -= numbers
    return _loaded["gather"]


def named(value: Tensor) -> str:
    """The implementation for tensors like `value`.

    While a network is being exported that is the one of `exported_sampling`, whose operators files
    can hold. Else `auto` (the default) takes the device's fused kernels for what they can hold,
    plain PyTorch for the rest: other devices and float64.

    Raises:
        InputError: $MTL_ATTENTION names no implementation.
    """
    wanted = os.environ.get(VARIABLE, "auto")
    if wanted not in ("auto", *IMPLEMENTATIONS):
        known = ", ".join(("auto", *IMPLEMENTATIONS))
        raise InputError(f"{VARIABLE}={wanted}: known are {known}.")
    wanted = exported_sampling() or wanted
    if wanted == "auto":
        held = value.dtype in HELD.get(value.device.type, ())
        wanted = fused(value.device.type, value.device.index) if held else "reference"
    return wanted


def fused(kind: str, index: int | None = None) -> str:
    """The fused kernels for a type of device, and which one: CUDA's from `OLDEST` on, Triton's for
    older GPUs and for those of AMD, which torch calls cuda too.
    """
    if kind == "cpu":
        return "numba"
    old = torch.cuda.is_available() and torch.cuda.get_device_capability(index) < OLDEST
    return "triton" if old or torch.version.hip else "cuda"


def exported_sampling() -> Sampling | None:
    """How a network that is being traced into a file samples its maps; None if none is."""
    traced = torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()
    return _written if traced or torch.jit.is_tracing() else None


@contextmanager
def written_with(sampling: Sampling) -> Iterator[None]:
    """Within it, exported networks sample so (otherwise by `gather`)."""
    global _written
    before, _written = _written, sampling
    try:
        yield
    finally:
        _written = before


_written: Sampling = "gather"


def load(name: str) -> Operator:
    """An implementation by name; the next one, with one logged line, where it cannot be had.

    One that fails later, at whatever shape, is relieved then: see `mtlcli.ops.standby`.
    """
    return _loaded[_settle(name)]


def _settle(name: str) -> str:
    """The name under which `_loaded` then holds what `name` stands for."""
    if name not in _loaded:
        try:
            _loaded[name] = _import(name)
        except Exception as error:  # a missing package, compiler or driver, each with its own kind
            standby.give_up(name, error)
            following = "triton" if name == "cuda" else "reference"
            _loaded[name] = _loaded[_settle(following)]
    return name


# Compilers do not trace imports and what a GPU says of itself. This is all that
# torch.compiler.assume_constant_result does, but that imports the compiler, which takes seconds.
_settle._dynamo_marked_constant = True  # type: ignore[attr-defined]
fused._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _import(name: str) -> Operator:
    if name == "numba":
        from mtlcli.ops.numba_cpu import deformable_attention_numba

        return deformable_attention_numba
    if name == "cuda":
        from mtlcli.ops.cuda_gpu import deformable_attention_cuda

        return deformable_attention_cuda
    from mtlcli.ops.triton_gpu import deformable_attention_triton

    return deformable_attention_triton
