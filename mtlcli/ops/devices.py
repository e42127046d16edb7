"""Which device the work runs on, and in which precision: half where it is safe and wanted."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from mtlcli.errors import InputError


def full_precision(device: torch.device) -> AbstractContextManager:
    """Inside, autocast is off: sampling positions rounded to half precision are off by pixels."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def half_type(device: torch.device) -> torch.dtype:
    """bfloat16, or float16 on CUDA devices without it."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def autocast(device: torch.device, amp: bool) -> AbstractContextManager:
    """Within it, a forward pass computes in half precision what can be, if `amp`."""
    return torch.autocast(device.type, half_type(device), enabled=amp)


def make_scaler(device: torch.device, amp: bool) -> torch.amp.GradScaler:
    """Scales losses so that float16 gradients do not vanish; does nothing in other types."""
    needed = amp and half_type(device) == torch.float16
    return torch.amp.GradScaler(device.type, enabled=needed)


@contextmanager
def numerics(device: torch.device, deterministic: bool) -> Iterator[None]:
    """Within it, float32 products on CUDA may use TF32; `deterministic` allows only what gives the
    same bits every time.

    Convolutions take the algorithm that cuDNN's heuristics name. Its search by trial, which makes a
    first iteration longer still, is not asked for; one that the caller turned on stays.
    """
    products = torch.get_float32_matmul_precision()
    strict = torch.are_deterministic_algorithms_enabled()
    measured = torch.backends.cudnn.benchmark
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.use_deterministic_algorithms(strict)
        torch.backends.cudnn.benchmark = measured


def pick_device(name: str) -> torch.device:
    """ "auto" is the first of cuda, mps, cpu that this machine has.

    Raises:
        InputError: an unknown name, or a device this machine does not have.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, present in there.items() if present))
    if name.split(":")[0] not in there:
        raise InputError(f"--device {name}: known are auto, {', '.join(there)}.")
    if not there[name.split(":")[0]]:
        raise InputError(f"--device {name}: this machine has none; use --device auto.")
    return torch.device(name)
