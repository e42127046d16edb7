"""Which implementation of deformable attention computes: by device, or as $MTL_ATTENTION says."""

import logging
import os
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from mtlcli.errors import InputError
from mtlcli.ops import reference

Operator = Callable[..., Tensor]
IMPLEMENTATIONS = ("reference", "numba")
VARIABLE = "MTL_ATTENTION"

log = logging.getLogger(__name__)


def choose(value: Tensor) -> Operator:
    """The operator for tensors like `value`.

    `auto` (the default) takes the fused CPU kernels for what they can hold, plain PyTorch for the
    rest: other devices, float64, and while a network is being exported.

    Raises:
        InputError: $MTL_ATTENTION names no implementation.
    """
    wanted = os.environ.get(VARIABLE, "auto")
    if wanted not in ("auto", *IMPLEMENTATIONS):
        known = ", ".join(("auto", *IMPLEMENTATIONS))
        raise InputError(f"{VARIABLE}={wanted}: known are {known}.")
    if wanted == "auto":
        fits = value.device.type == "cpu" and value.dtype in (torch.float32, torch.bfloat16)
        wanted = "numba" if fits and not exporting() else "reference"
    return load(wanted)


def exporting() -> bool:
    """Whether the network is being traced into a file, which can hold plain operators only."""
    return torch.jit.is_tracing() or torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


@cache
def load(name: str) -> Operator:
    """An implementation by name; without numba's compiler, plain PyTorch with one logged line."""
    if name == "numba":
        try:
            from mtlcli.ops.numba_cpu import deformable_attention_numba
        except (ImportError, OSError) as error:
            log.warning("no fused CPU kernels (%s): deformable attention runs slowly", error)
        else:
            return deformable_attention_numba
    return reference.deformable_attention
