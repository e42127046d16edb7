"""The CUDA kernels as NVRTC compiles them for the problem of `mtl bench attention`; their loops."""

from pathlib import Path

import pytest
import torch

from mtlcli.ops import cuda_launch
from mtlcli.ops.cuda_compile import Code, compile
from mtlcli.ops.cuda_launch import Cut, Launch
from mtlcli.ops.fused import Attention
from tests.machine_code import Function, machine_code

KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
NYUD = ((107, 140),) * 4 + ((54, 70),) * 4 + ((27, 35),) * 4
FILES = ("cuda_forward.cu", "cuda_differentiate.cu", "cuda_scatter.cu")


def launch(
    kind: str,
    clamp: bool,
    channels: int = 70,
    points: int = 16,
    places: str = "fp32",
    exact: bool = False,
) -> Launch:
    """Of the problem of `mtl bench attention`, without data."""
    samples = (1, 4 * 107 * 140, 4, 12, points)
    pixels = sum(height * width for height, width in NYUD)
    value = torch.empty(1, pixels, 4, channels, dtype=KINDS[kind], device="meta")
    offsets, logits = (
        torch.empty(shape, dtype=KINDS[places], device="meta") for shape in ((*samples, 2), samples)
    )
    points_ = torch.empty(samples[1], 2, device="meta")
    sizes = [size for shape in NYUD for size in shape]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_launch, "map_table", lambda sizes, device: torch.empty(0))
        return Launch(Attention(value, sizes, points_, offsets, logits, clamp), exact)


def cuts(channels: int, points: int, size: int, memory: int = cuda_launch.MEMORY) -> dict[str, Cut]:
    """Of each file, on a multiprocessor with so many bytes of shared memory."""
    scatter = cuda_launch.scatter_cut(channels, points, size, memory=memory)
    return dict(zip(FILES, (cuda_launch.forward_cut(), cuda_launch.differentiate_cut(), scatter)))


def functions(code: Code, architecture: int, folder: Path) -> dict[str, Function]:
    """The kernels of a file by name."""
    path = folder / "kernel.cubin"
    path.write_bytes(compile(code, architecture))
    return {function.name: function for function in machine_code(path)}


def main_loop(name: str, function: Function, size: int) -> tuple[list[str], float]:
    """The loop that takes most of the time, and the samples (entries) of one turn of a warp."""
    bodies = [function.body(loop) for loop in function.inner_loops()]
    if name == "forward":  # two samples of four queries; its twin for narrow maps is longer
        return min((b for b in bodies if count(b, "LDG") >= 9), key=len), 8
    if (
        name == "differentiate"
    ):  # one or two samples of eight groups of lanes, and the rest by query
        if size == 2:
            inner = max(bodies, key=lambda body: count(body, "HMMA"))
            return inner, 16
        return max(bodies, key=lambda body: count(body, "LDG.E.128")), 8
    # two entries of each group of nine lanes
    return max(bodies, key=lambda body: count(body, "FFMA")), 2 * 32 / 9


def count(body: list[str], name: str) -> int:
    """Instructions with the name in them."""
    return sum(name in instruction for instruction in body)
