"""CUDA kernels on a device: loading machine code and launching it, through the driver."""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from cuda.bindings import driver

from mtlcli.errors import InputError
from mtlcli.ops.cuda_compile import Code, compile

RESERVED = 1024  # bytes of shared memory that every block takes besides its own


class Kernel:
    """A kernel on one device, for blocks of one size.

    Args:
        code, name: the source that it stands in, compiled for a case, and its name.
        device: a CUDA device.
        threads, shared: of a block; bytes of shared memory.
        blocks: that a multiprocessor should hold at once: the rest of the memory that it shares
            with its first-level cache is left to the cache.
    """

    def __init__(
        self, code: Code, name: str, device: torch.device, threads: int, shared: int, blocks: int
    ) -> None:
        self.device, self.threads, self.shared = device, threads, shared
        module = _module(code, device)
        bind(device)
        self.function = _ask(driver.cuModuleGetFunction(module, name.encode()))
        of_function, memory = driver.CUfunction_attribute, shared_memory(device)
        wanted = {
            of_function.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: shared,
            of_function.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: share_of(
                memory, blocks * (shared + RESERVED) if shared else 0
            ),
        }
        for attribute, number in wanted.items():
            _ask(driver.cuFuncSetAttribute(self.function, attribute, number))

    def __call__(self, blocks: int, arguments: Sequence[Any]) -> None:
        """Launch it on torch's current stream of the device, with ctypes values; waits for nothing.

        Can be recorded into a CUDA graph: nothing is allocated, copied or synchronised.
        """
        bind(self.device)
        pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        stream = torch.cuda.current_stream(self.device).cuda_stream
        sizes = (blocks, 1, 1, self.threads, 1, 1, self.shared)
        _ask(driver.cuLaunchKernel(self.function, *sizes, stream, ctypes.addressof(pointers), 0))


@cache
def load(
    code: Code, name: str, device: torch.device, threads: int, shared: int, blocks: int
) -> Kernel:
    """The kernel, which stays loaded."""
    return Kernel(code, name, device, threads, shared, blocks)


@cache
def _module(code: Code, device: torch.device) -> Any:
    binary = compile(code, architecture(device))
    bind(device)
    return _ask(driver.cuModuleLoadData(binary))


def architecture(device: torch.device) -> int:
    """90 for compute capability 9.0.

    Raises:
        InputError: the device is no GPU of NVIDIA.
    """
    if device.type != "cuda" or torch.version.hip:
        raise InputError(f"value is on {device}; the cuda operator takes tensors on an NVIDIA GPU.")
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


@cache
def shared_memory(device: torch.device) -> int:
    """Bytes that the blocks on a multiprocessor share."""
    whole = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
    return int(_ask(driver.cuDeviceGetAttribute(whole, _ask(driver.cuDeviceGet(device.index)))))


def share_of(whole: int, part: int) -> int:
    """Percent, rounded up, at most 100."""
    return min(100, -(-100 * part // whole))


def bind(device: torch.device) -> None:
    """Make the context that torch uses on the device this thread's.

    A thread of autograd's may come here before it ever asked anything of the device.
    """
    context = _context(device.index)
    if int(_ask(driver.cuCtxGetCurrent())) != int(context):
        _ask(driver.cuCtxSetCurrent(context))


@cache
def _context(index: int) -> Any:
    return _ask(driver.cuDevicePrimaryCtxRetain(_ask(driver.cuDeviceGet(index))))


def _ask(answer: tuple[Any, ...]) -> Any:
    """What a call of the driver returned, if it went well."""
    status, *found = answer
    if status != driver.CUresult.CUDA_SUCCESS:
        said = driver.cuGetErrorString(status)[1]
        raise RuntimeError(f"{status.name}: {said.decode() if said else 'no reason'}")
    return found[0] if found else None
