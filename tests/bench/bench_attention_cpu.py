"""The numba operator against grid_sample and DeMT's global attention on the CPU, in one run.

    python tests/bench/bench_attention_cpu.py [--size H W] [--threads 2] [--attention-backward]

The core only: softmax, sampling and weighted sum against scaled_dot_product_attention over as many
tokens (4 heads of 64). Ours runs between the others, and its seconds are the median of all its
runs; the others run once. Attention's backward pass takes minutes at full size: ask for it.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlcli.ops.numba_cpu import deformable_attention_numba

TASKS, HEADS, CHANNELS, POINTS = 4, 4, 70, 16
TOKEN_CHANNELS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description="Deformable attention on the CPU, timed.")
    parser.add_argument("--size", type=int, nargs=2, default=(107, 140), metavar=("H", "W"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--attention-backward", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    compile_kernels()
    shapes, reference = geometry(*options.size)
    ours = inputs(shapes, len(reference))
    grad = torch.randn(1, len(reference), HEADS * CHANNELS)
    tokens = torch.randn(3, 1, HEADS, len(reference), TOKEN_CHANNELS)
    print(f"{len(reference)} queries, {len(shapes)} maps, {options.threads} threads")

    def fused(value: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
        return deformable_attention_numba(value, shapes, reference, offsets, logits)

    def half(value: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
        return fused(value.bfloat16(), offsets, logits)

    def grid(value: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
        return grid_sample_by_map(value, shapes, reference, offsets, logits)

    report_memory(fused, ours, grad)
    attend = F.scaled_dot_product_attention
    others: dict[str, Callable[[], object]] = {
        "grid_sample by map": lambda: grid(*ours),
        "attention fp32": lambda: attend(*tokens),
        "attention bf16": lambda: attend(*tokens.bfloat16()),
        "numba, bf16 value": lambda: half(*ours),
    }
    runs = seconds(lambda: fused(*ours), options.repeat)
    theirs = {}
    for name, other in others.items():
        theirs[name] = median(seconds(other, 1))
        runs += seconds(lambda: fused(*ours), options.repeat)
    forward = median(runs)
    for name, taken in theirs.items():
        print(
            f"forward: {name} {taken:.2f} s = {taken / forward:.1f} times numba's {forward:.2f} s"
        )

    runs = seconds(lambda: forward_backward(fused, ours, grad), options.repeat)
    print(f"forward and backward: numba {median(runs):.2f} s")
    if options.attention_backward:
        like = torch.randn_like(tokens[0])
        (taken,) = seconds(lambda: forward_backward(attend, tokens.unbind(), like), 1)
        runs += seconds(lambda: forward_backward(fused, ours, grad), options.repeat)
        both = median(runs)
        print(f"attention fp32 {taken:.2f} s = {taken / both:.1f} times numba's {both:.2f} s")


def compile_kernels() -> None:
    began = time.perf_counter()
    shapes, reference = geometry(4, 4)
    leaves = [tensor.requires_grad_() for tensor in inputs(shapes, len(reference))]
    deformable_attention_numba(leaves[0], shapes, reference, *leaves[1:]).sum().backward()
    deformable_attention_numba(leaves[0].bfloat16(), shapes, reference, *leaves[1:])
    print(f"kernels compiled or loaded in {time.perf_counter() - began:.1f} s")


def geometry(height: int, width: int) -> tuple[list[tuple[int, int]], Tensor]:
    """Three maps for each task, halved from one to the next, and a query at each finest pixel."""
    half = (-(-height // 2), -(-width // 2))
    shapes = [(height, width), half, (-(-half[0] // 2), -(-half[1] // 2))] * TASKS
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = (torch.stack((x, y), -1).view(-1, 2) + 0.5) / torch.tensor([width, height])
    return shapes, pixels.repeat(TASKS, 1)


def inputs(shapes: list[tuple[int, int]], queries: int) -> list[Tensor]:
    """Value, offsets (normal, 3 pixels) and logits."""
    pixels = sum(height * width for height, width in shapes)
    samples = (1, queries, HEADS, len(shapes), POINTS)
    sizes = (1, pixels, HEADS, CHANNELS), (*samples, 2), samples
    return [scale * torch.randn(size) for scale, size in zip((1, 3, 1), sizes)]


def grid_sample_by_map(
    value: Tensor, shapes: list[tuple[int, int]], reference: Tensor, offsets: Tensor, logits: Tensor
) -> Tensor:
    """The usual formulation, each map reduced at once so that it fits."""
    share = logits.flatten(3).softmax(-1).view(logits.shape)[0]  # N, M, L, P
    parts = value[0].split([height * width for height, width in shapes])
    out = torch.zeros(len(reference), HEADS, CHANNELS)
    for level, (height, width) in enumerate(shapes):
        size = torch.tensor([width, height])
        steps = 2 * offsets[0, :, :, level] / size  # N, M, P, 2
        grid = (2 * reference - 1)[:, None, None] + steps
        maps = parts[level].permute(1, 2, 0).reshape(HEADS, CHANNELS, height, width)
        read = F.grid_sample(maps, grid.transpose(0, 1), padding_mode="border", align_corners=False)
        out = out + torch.einsum("mdnp,nmp->nmd", read, share[:, :, level])
    return out.flatten(1)[None]


def forward_backward(function: Callable, inputs: Sequence[Tensor], grad: Tensor) -> None:
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    torch.autograd.grad(function(*leaves), leaves, grad)


def report_memory(function: Callable, inputs: Sequence[Tensor], grad: Tensor) -> None:
    forward = peak_megabytes(lambda: function(*inputs))
    backward = peak_megabytes(lambda: forward_backward(function, inputs, grad))
    print(f"peak extra memory: forward {forward:.0f} MB, with backward {backward:.0f} MB")


def peak_megabytes(function: Callable[[], object]) -> float:
    """How much the process grows while it runs the function (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("VmRSS")
    function()
    return (status("VmHWM") - before) * 1024 / 1e6


def status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def seconds(function: Callable[[], object], repeat: int) -> list[float]:
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return times


if __name__ == "__main__":
    main()
