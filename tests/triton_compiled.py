"""Compiles every Triton kernel as it is launched, without a GPU, with the Triton that is imported.

    python tests/triton_compiled.py FOLDER CASE...

`test_ops_triton.py` runs it in processes of its own, with today's Triton and with older ones. The
launching code itself calls the kernels; a stand-in for the driver names the GPU, and nothing runs.
So types, divisibility and constants are those of real launches, on which compilers depend. Writes
machine code into FOLDER and prints a JSON line for each kernel.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from mtlcli.ops import triton_launch
from mtlcli.ops.fused import Attention, empty_gradients, empty_results

KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
CASES: dict[str, tuple[int, str, bool, bool]] = {  # architecture, type, clamped, NYUD or small
    "90-bf16": (90, "bf16", True, True),
    "90-fp32": (90, "fp32", False, True),
    "80-bf16": (80, "bf16", False, True),
    "80-fp32": (80, "fp32", True, True),
    "90-odd": (90, "fp16", True, False),
    "75-odd": (75, "fp16", False, False),
    "80-odd": (80, "fp32", False, False),
}


class Driver:
    """As much of a driver as compiling asks for."""

    def __init__(self, architecture: int) -> None:
        self.target = GPUTarget("cuda", architecture, 32)

    def get_current_device(self) -> int:
        return self.target.arch  # kernels are kept by device

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self.target


def nyud(kind: torch.dtype, clamp: bool) -> Attention:
    """DeMT-ITSA at 425x560, 8 pictures: 4 heads of 70, 12 maps, 16 points; only shapes, no data."""
    sizes = 12 * (107, 140)
    pixels = 12 * 107 * 140
    samples = (8, 4 * 107 * 140, 4, 12, 16)
    return Attention(
        value=torch.empty(8, pixels, 4, 70, dtype=kind, device="meta"),
        sizes=sizes,
        reference=torch.empty(samples[1], 2, device="meta"),
        offsets=torch.empty(*samples, 2, device="meta"),
        logits=torch.empty(samples, device="meta"),
        clamp=clamp,
    )


def odd(kind: torch.dtype, clamp: bool) -> Attention:
    """Numbers that nothing divides, read from slices of one projection, in half types too."""
    joint = torch.empty(1, 7, 3 * 1 * 3 * 3, dtype=kind)
    offsets, logits = joint.split([18, 9], -1)
    return Attention(
        value=torch.empty(1, 35, 3, 5, dtype=kind),
        sizes=(5, 7),
        reference=torch.empty(7, 2),
        offsets=offsets.view(1, 7, 3, 1, 3, 2),
        logits=logits.view(1, 7, 3, 1, 3),
        clamp=clamp,
    )


def compile_all(problem: Attention) -> list[tuple[dict[str, Any], bytes]]:
    """What all launches of a forward and a backward pass compile."""
    made: list[tuple[dict[str, Any], bytes]] = []
    run = JITFunction.run

    def compile_only(kernel: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        compiled = run(kernel, *args, grid=grid, warmup=True, **options)
        numbers = {k.lower(): v for k, v in options.items() if isinstance(v, int)}
        made.append((numbers | {"name": kernel.__name__}, compiled.asm["cubin"]))

    told = problem.told()
    out, lse = empty_results(*told)
    rows = out.view(*lse.shape, -1)
    JITFunction.run = compile_only
    try:
        triton_launch.log_sum_exp(problem, lse)
        triton_launch.forward(problem, lse, out)
        _, grad_offsets, grad_logits = empty_gradients(out, out, lse, *told)
        triton_launch.differentiate(problem, lse, lse, rows, grad_offsets, grad_logits)
        triton_launch.scatter(problem, lse, rows)
    finally:
        JITFunction.run = run
    return made


def main(folder: str, *cases: str) -> None:
    for case in cases:
        architecture, kind, clamp, large = CASES[case]
        driver.set_active(Driver(architecture))
        triton_launch._architecture = lambda device, number=architecture: number
        problem = (nyud if large else odd)(KINDS[kind], clamp)
        for number, (kernel, code) in enumerate(compile_all(problem)):
            path = Path(folder, f"{case}-{number}.cubin")
            path.write_bytes(code)
            told = {"case": case, "triton": triton.__version__, "path": str(path)}
            print(json.dumps(told | kernel), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
