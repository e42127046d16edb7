"""Launches go to torch's current stream of the device, in its context, with what was asked for."""

import ctypes
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("cuda.bindings", reason="the bindings of CUDA are not installed")

from mtlcli.ops import cuda_driver
from mtlcli.ops.cuda_compile import Code

CODE = Code(source="cuda_forward.cu", macros=())
GOOD, BAD = SimpleNamespace(name="CUDA_SUCCESS"), SimpleNamespace(name="CUDA_ERROR_INVALID_IMAGE")


class Driver:
    """A driver of two devices: a context is current in one thread."""

    CUresult = SimpleNamespace(CUDA_SUCCESS=GOOD)
    CUfunction_attribute = SimpleNamespace(
        CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES="dynamic",
        CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT="percent",
    )
    CUdevice_attribute = SimpleNamespace(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR=0)

    def __init__(self) -> None:
        self.thread = threading.local()
        self.loaded: list[tuple[int, bytes]] = []
        self.attributes: dict[str, int] = {}
        self.launched: list[tuple[int, Any, list[int]]] = []
        self.answer = GOOD

    def cuCtxGetCurrent(self) -> tuple:
        return GOOD, getattr(self.thread, "context", 0)

    def cuCtxSetCurrent(self, context: int) -> tuple:
        self.thread.context = context
        return (GOOD,)

    def cuDeviceGet(self, index: int) -> tuple:
        return GOOD, index

    def cuDevicePrimaryCtxRetain(self, device: int) -> tuple:
        return GOOD, 100 + device

    def cuDeviceGetAttribute(self, attribute: int, device: int) -> tuple:
        return GOOD, 200 * 1024

    def cuModuleLoadData(self, code: bytes) -> tuple:
        self.loaded.append((self.thread.context, code))
        return self.answer, len(self.loaded)

    def cuModuleGetFunction(self, module: int, name: bytes) -> tuple:
        assert self.thread.context
        return GOOD, (module, name)

    def cuFuncSetAttribute(self, function: Any, attribute: str, number: int) -> tuple:
        assert self.thread.context
        self.attributes[attribute] = number
        return (GOOD,)

    def cuGetErrorString(self, status: Any) -> tuple:
        return GOOD, b"device kernel image is invalid"

    def cuLaunchKernel(self, function: Any, *told: Any) -> tuple:
        *sizes, stream, pointers, _ = told
        place = ctypes.cast(pointers, ctypes.POINTER(ctypes.c_void_p))
        number = ctypes.cast(place[1], ctypes.POINTER(ctypes.c_longlong))[0]
        self.launched.append((self.thread.context, stream, [*sizes, number]))
        return (GOOD,)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setattr(cuda_driver, "driver", made)
    monkeypatch.setattr(cuda_driver, "compile", lambda code, architecture: bytes([architecture]))
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device: [(9, 0), (8, 0)][device.index]
    )
    monkeypatch.setattr(
        torch.cuda,
        "current_stream",
        lambda device: SimpleNamespace(cuda_stream=7 + device.index),
    )
    kept_things = (cuda_driver.load, cuda_driver._module, cuda_driver._context)
    for kept in (*kept_things, cuda_driver.shared_memory):
        kept.cache_clear()
    return made


def test_every_device_has_its_own_code_context_and_stream(driver: Driver) -> None:
    for index in (0, 1, 0):
        device = torch.device("cuda", index)
        kernel = cuda_driver.load(CODE, "forward", device, 384, 2048, 2)
        kernel(5, [ctypes.c_int(1), ctypes.c_longlong(2**40 + index)])
    assert driver.loaded == [(100, bytes([90])), (101, bytes([80]))]
    wanted = [5, 1, 1, 384, 1, 1, 2048]
    assert driver.launched == [
        (100 + i, 7 + i, [*wanted, 2**40 + i]) for i in (0, 1, 0)
    ]  # fmt: skip


def test_a_thread_of_autograds_gets_the_context(driver: Driver) -> None:
    device = torch.device("cuda", 1)
    kernel = cuda_driver.load(CODE, "forward", device, 32, 0, 1)
    thread = threading.Thread(target=kernel, args=(1, [ctypes.c_int(), ctypes.c_longlong()]))
    thread.start()
    thread.join()
    assert [context for context, *_ in driver.launched] == [101]


def test_a_thread_of_autograds_may_ask_first_for_a_kernel_of_what_is_loaded(
    driver: Driver,
) -> None:
    device, found = torch.device("cuda", 1), []
    cuda_driver.load(CODE, "forward", device, 32, 0, 1)
    ask = (CODE, "pack", device, 32, 0, 1)
    thread = threading.Thread(target=lambda: found.append(cuda_driver.load(*ask)))
    thread.start()
    thread.join()
    assert found
    assert len(driver.loaded) == 1


def test_the_cache_keeps_what_blocks_do_not_need(driver: Driver) -> None:
    device = torch.device("cuda", 0)
    cuda_driver.load(CODE, "forward", device, 32, 0, 2)
    assert driver.attributes == {"dynamic": 0, "percent": 0}
    cuda_driver.load(CODE, "forward", device, 32, 49 * 1024, 2)
    assert driver.attributes == {"dynamic": 49 * 1024, "percent": 50}
    assert len(driver.loaded) == 1


def test_a_refusal_is_one_line_with_its_reason(driver: Driver) -> None:
    driver.answer = BAD
    with pytest.raises(RuntimeError, match="CUDA_ERROR_INVALID_IMAGE: device kernel image"):
        cuda_driver.load(CODE, "forward", torch.device("cuda", 0), 32, 0, 1)
