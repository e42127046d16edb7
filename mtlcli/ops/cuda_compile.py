"""CUDA C to machine code at run time, by NVRTC: there is no compiler and no extension to install.

NVRTC is asked through `cuda.bindings`, NVIDIA's own package, which CUDA builds of torch 2.10 and
newer bring along on Linux, with NVRTC itself. (What torch has of its own for this is private, and
tied to one kernel of one header.) Where it is missing, as with torch 2.9, importing this fails, and
Triton's kernels are taken. Machine code is kept on disk under all that it depends on.
"""

import hashlib
import logging
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cuda.bindings import nvrtc

SOURCES = Path(__file__).parent
OPTIONS = ("--std=c++17",)
DIGEST = hashlib.sha256().digest_size  # bytes before the machine code in a file

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Code:
    """A source file, for one case."""

    source: str  # beside this one
    macros: tuple[tuple[str, int], ...]


def compile(code: Code, architecture: int) -> bytes:
    """Machine code of the source file for an architecture, 90 for compute capability 9.0.

    Raises:
        RuntimeError: NVRTC does not take it, or does not know the architecture.
    """
    options = [f"--gpu-architecture=sm_{architecture}", *OPTIONS]
    options += [f"--define-macro={name}={number}" for name, number in code.macros]
    key = hashlib.sha256(repr((_texts(), nvrtc_version(), code, options)).encode())
    path = cache_dir() / f"{key.hexdigest()}.cubin"
    found = _read(path)
    if found is None:
        began = time.perf_counter()
        found = _compile(code.source, options)
        log.info("compiled %s in %.1f s", code.source, time.perf_counter() - began)
        _write(path, found)
    return found


def cache_dir() -> Path:
    """Where machine code is kept: in mtl/kernels of the user's folder for such things."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mtl" / "kernels"


@cache
def nvrtc_version() -> tuple[int, int]:
    """Of the compiler."""
    major, minor = _ask(nvrtc.nvrtcVersion())
    return major, minor


@cache
def _texts() -> dict[str, bytes]:
    """Every source by its name, as it was when this process first asked: what is compiled is what
    the name of its machine code is made of.
    """
    return {path.name: path.read_bytes() for path in sorted(SOURCES.glob("*.cu"))}


def _compile(source: str, options: list[str]) -> bytes:
    others = {name.encode(): text for name, text in _texts().items() if name != source}
    given = len(others), list(others.values()), list(others)
    program = _ask(nvrtc.nvrtcCreateProgram(_texts()[source], source.encode(), *given))
    try:
        arguments = [option.encode() for option in options]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(arguments), arguments)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise RuntimeError(f"NVRTC does not compile {source}: {_first_error(program)}")
        code = bytearray(_ask(nvrtc.nvrtcGetCUBINSize(program)))
        _ask(nvrtc.nvrtcGetCUBIN(program, code))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return bytes(code)


def _first_error(program: Any) -> str:
    text = bytearray(_ask(nvrtc.nvrtcGetProgramLogSize(program)))
    _ask(nvrtc.nvrtcGetProgramLog(program, text))
    lines = bytes(text).decode(errors="replace").strip("\0 \n").splitlines()
    return next((line for line in lines if "error" in line), lines[0] if lines else "no reason")


def _ask(answer: tuple[Any, ...]) -> Any:
    """What a call of NVRTC returned, if it went well."""
    status, *found = answer
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"NVRTC: {status.name}")
    return found[0] if len(found) == 1 else found


def _read(path: Path) -> bytes | None:
    """Machine code of a file that is whole; None if there is none."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, code = data[:DIGEST], data[DIGEST:]
    return code if code and hashlib.sha256(code).digest() == digest else None


def _write(path: Path, code: bytes) -> None:
    """Keep it, whole or not at all, beside other processes; without, it is compiled again."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        os.replace(beside, path)
