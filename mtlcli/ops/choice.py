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
IMPLEMENTATIONS = ("reference", "gather", "grid_sample", "numba", "triton")
FUSED = {  # device -> implementation, and the types of value it is taken for
    "cpu": ("numba", (torch.float32, torch.bfloat16)),
    "cuda": ("triton", (torch.float32, torch.bfloat16, torch.float16)),
}
VARIABLE = "MTL_ATTENTION"

_loaded: dict[str, Operator] = {
    "reference": reference.deformable_attention,
    "gather": gather.deformable_attention,
    "grid_sample": grid_sample.deformable_attention,
}


def choose(value: Tensor) -> Operator:
    """The operator for tensors like `value`.

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
        name, held = FUSED.get(value.device.type, ("reference", ()))
        wanted = name if value.dtype in held else "reference"
    return load(wanted)


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
    """An implementation by name; plain PyTorch, with one logged line, where it cannot be had.

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
            _loaded[name] = reference.deformable_attention
    return name


# Compilers do not trace the imports. This is all that
# torch.compiler.assume_constant_result does, but that imports the compiler, which takes seconds.
_settle._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _import(name: str) -> Operator:
    if name == "numba":
        from mtlcli.ops.numba_cpu import deformable_attention_numba

        return deformable_attention_numba
    from mtlcli.ops.triton_gpu import deformable_attention_triton

    return deformable_attention_triton
