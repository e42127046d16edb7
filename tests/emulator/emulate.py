"""Runs the CUDA kernels on CPU tensors: they are compiled by g++ with `cuda.h` in place of a GPU.

`emulated` stands in for the driver, so that all of the product but that runs as it does on a GPU.
Libraries are kept for later runs under all that they depend on.
"""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from mtlcli.ops import cuda_launch
from mtlcli.ops.cuda_compile import SOURCES, Code

HERE = Path(__file__).parent
COMPILER = shutil.which("g++")
OPTIONS = ("-O1", "-std=c++17", "-shared", "-fPIC", "-w", "-march=native", "-ffp-contract=fast")
KERNEL = r"__global__ void(?:\s+__launch_bounds__\([^)]*\))?\s+(\w+)\("
backwards = False  # whether blocks and threads come in the other order
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="g++ is not here")


class Refused(RuntimeError):
    """What the emulator says of a kernel that does not keep the rules."""


class Kernel:
    """As `mtlcli.ops.cuda_driver.Kernel`, on a CPU."""

    def __init__(self, library: ctypes.CDLL, name: str, threads: int, shared: int) -> None:
        self.library, self.name, self.threads, self.shared = library, name, threads, shared

    def __call__(self, blocks: int, arguments: Sequence[Any]) -> None:
        pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        self.library.turn(int(backwards))
        run = self.library.run
        run.restype = ctypes.c_char_p
        wrong = run(self.name.encode(), blocks, self.threads, self.shared, pointers)
        if wrong:
            raise Refused(wrong.decode())


def load(
    code: Code, name: str, device: torch.device, threads: int, shared: int, blocks: int
) -> Kernel:
    """As `mtlcli.ops.cuda_driver.load`."""
    return Kernel(library(SOURCES / code.source, code.macros), name, threads, shared)


def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the product launch its kernels here."""
    monkeypatch.setattr(cuda_launch, "load", load)
    monkeypatch.setattr(cuda_launch, "shared_memory", lambda device: cuda_launch.MEMORY)


@cache
def library(source: Path, macros: tuple[tuple[str, int], ...]) -> ctypes.CDLL:
    """The kernels of a file, compiled with these macros."""
    assert COMPILER
    kernels = re.findall(
        r"__global__ void (?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(", source.read_text()
    )
    texts = [path.read_text() for path in sorted((*SOURCES.glob("*.cu"), *HERE.glob("*.*")))]
    key = hashlib.sha256(repr((texts, OPTIONS, str(source), macros)).encode()).hexdigest()
    folder = Path(tempfile.gettempdir(), f"mtl-emulator-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    path = folder / f"{key[:24]}.so"
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}")
        defined = [f"-D{name}={number}" for name, number in macros]
        named = [f'-DSOURCE="{source}"', "-DKERNELS=" + " ".join(f"KERNEL({k})" for k in kernels)]
        command = [COMPILER, *OPTIONS, *defined, *named, f"-I{SOURCES}", str(HERE / "run.cpp")]
        done = subprocess.run([*command, "-o", str(part)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:3000]
        os.replace(part, path)
    return ctypes.CDLL(str(path))
