"""What the CUDA kernels should take on an H200 at NYUD size, by their machine code, without a GPU.

    python -m tests.gpu.expected

A kernel is bound by the instructions that it issues or by its passes through the first-level cache,
which serves 8 lanes of 16 bytes at a time, and again for each time that two of them want the same
banks. Both are counted here, for each sample of a query and head. The prototypes reached 65 to 75 %
of the tighter bound, and so should these; the value's gradient is as the prototype's was measured.
What came of it (2026-11-27) stands in docs/performance.md and results/gpu/h200.jsonl.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mtlcli.ops.cuda_launch import row_layout, scatter_cut
from tests.compiled_cuda import FILES, KINDS, count, cuts, functions, launch, main_loop
from tests.machine_code import Function

SAMPLES = 4 * 107 * 140 * 4 * 12 * 16  # queries, heads, maps, points
CLOCK, PROCESSORS, ISSUES = 1.755e9, 132, 4  # of an H200; warp instructions per cycle of each
REACHED = (0.75, 0.65)  # of the bound
CONVERTED = 16  # numbers to 64-bit integers, per cycle of a multiprocessor
COPIED = 2.81e12  # bytes/s, measured on an H100
VALUE = {"bf16": 2.29, "fp32": 3.43}  # ms, of the prototype, H200
CHANNELS, POINTS = 70, 16


def bounds(name: str, function: Function, kind: str) -> tuple[float, float]:
    """Warp instructions and passes of one sample."""
    body, samples = main_loop(name, function, KINDS[kind].itemsize)
    outer = max((function.body(loop) for loop in function.loops), key=len)
    around = len(outer) - sum(len(function.body(loop)) for loop in function.inner_loops())
    turn = {"forward": 64, "differentiate": 32}[name]  # samples of a turn of the outer loop
    return len(body) / samples + around / turn, passes(name, body, samples, kind)


def passes(name: str, body: list[str], samples: float, kind: str) -> float:
    """Of four pixels: whole lines take one for 8 lanes, the rest as its banks fall; and records."""
    lines, units = row_layout(CHANNELS, KINDS[kind].itemsize)
    if name == "differentiate" and kind == "fp32":
        rest = 2.0  # four lanes of eight read, from two pixels
    else:
        rest = units / 2 * conflicts(units)  # 8 lanes serve two samples
    return 4 * lines + rest + count(body, "LDS") / samples


def conflicts(units: int) -> float:
    """Passes of 8 lanes that each read 16 bytes of a random pixel's rest, neighbours in pairs."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(1 << 20, (20_000, 4), generator=generator)
    bank = torch.cat((first, first + 1), 1) * units % 8
    return float(torch.nn.functional.one_hot(bank, 8).sum(1).amax(1).float().mean())


def expected(kind: str) -> Iterator[tuple[str, float, float, float, float]]:
    """Each kernel's instructions, passes, and the range of its milliseconds."""
    cut = cuts(CHANNELS, POINTS, KINDS[kind].itemsize)
    with TemporaryDirectory() as folder:
        for source in FILES[:2]:
            name = source.removeprefix("cuda_").removesuffix(".cu")
            code = launch(kind, True).code(source, cut[source])
            function = functions(code, 90, Path(folder))[name]
            issued, passed = bounds(name, function, kind)
            bound = max(issued / ISSUES, passed) * SAMPLES / PROCESSORS / CLOCK * 1e3
            yield name, issued, passed, *(bound / share for share in REACHED)


def deterministic(kind: str) -> tuple[float, float]:
    """Milliseconds of the value's gradient by integer sums: those of its walk along the entries."""
    cut = scatter_cut(CHANNELS, POINTS, KINDS[kind].itemsize, exact=True)
    code = launch(kind, True, exact=True).code("cuda_scatter.cu", cut)
    with TemporaryDirectory() as folder:
        function = functions(code, 90, Path(folder))["scatter"]
    body = max(map(function.body, function.inner_loops()), key=lambda body: count(body, "F2I"))
    cycles = max(len(body) / ISSUES, 32 / CONVERTED * count(body, "F2I"))
    entries = 2 * 32 / 9  # of a turn of a warp; each sample has two
    bound = cycles / entries * 2 * SAMPLES / PROCESSORS / CLOCK * 1e3
    return bound / REACHED[0], bound / REACHED[1]


def whole(kind: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Milliseconds of the forward pass, and with the backward."""
    pixels = 78_820 * 4 * CHANNELS
    moved = pixels * 2 * KINDS[kind].itemsize  # the value, packed anew
    rest = VALUE[kind] + 1e3 * (2 * moved + 3 * 4 * pixels) / COPIED
    (_, *_, a, b), (_, *_, c, d) = expected(kind)
    pack = 1e3 * moved / COPIED
    return (a + pack, b + pack), (a + c + rest, b + d + rest)


def main() -> None:
    """A line for each kernel, and for the passes."""
    for kind in ("bf16", "fp32"):
        for name, issued, passed, least, most in expected(kind):
            print(
                f"{kind} {name}: {issued:.1f} instructions, {passed:.1f} passes a sample, "
                f"{least:.2f} to {most:.2f} ms"
            )
        ranges = (*whole(kind), deterministic(kind))
        for name, (least, most) in zip(("forward", "with backward", "value, exact"), ranges):
            print(f"{kind} {name}: {least:.1f} to {most:.1f} ms")


if __name__ == "__main__":
    sys.exit(main())
