"""The CUDA kernels compile without a GPU, for every architecture, into what they were written for.

In a short form by default: every kernel, architecture and width of a number, but not every pair of
properties; $MTL_EVERY_KERNEL=1 compiles all of these.
"""

import os
import re
from itertools import product
from pathlib import Path

import pytest

pytest.importorskip("cuda.bindings", reason="the bindings of CUDA are not installed")

from mtlcli.ops import cuda_channels, cuda_launch
from mtlcli.ops.cuda_compile import Code, compile
from tests.compiled_cuda import FILES, KINDS, count, cuts, functions, launch, main_loop
from tests.gpu import expected

ARCHITECTURES = {  # shared memory of a multiprocessor and of a block at most, KiB
    80: (164, 163),
    86: (100, 99),
    90: (228, 227),
    100: (228, 227),
}
EVERY = os.environ.get("MTL_EVERY_KERNEL") == "1"
LEAST = [("bf16", True), ("fp32", False)]
VALUES = list(product(KINDS, (True, False))) if EVERY else LEAST
CASES = list(product(ARCHITECTURES, VALUES))
# Warp instructions of the innermost loop for each sample of a query and head (scatter: for each of
# its entries): half types, float32.
MOST = {"forward": (23, 16), "differentiate": (10, 21), "scatter": (24, 21)}
REGISTERS = 65536  # of a multiprocessor


@pytest.mark.parametrize("source", FILES)
@pytest.mark.parametrize(("architecture", "case"), CASES)
def test_kernels_at_full_size_spill_nothing_in_their_loops_and_are_short(
    architecture: int, case: tuple[str, bool], source: str, tmp_path: Path
) -> None:
    kind, clamp = case
    size = KINDS[kind].itemsize
    cut = cuts(70, 16, size, ARCHITECTURES[architecture][0] * 1024)[source]
    found = functions(launch(kind, clamp).code(source, cut), architecture, tmp_path)
    for function in found.values():
        assert not any(function.spills(loop) for loop in function.inner_loops())
        assert function.stack <= 80  # 20 registers, outside of these loops
    name = source.removeprefix("cuda_").removesuffix(".cu")
    function = found[name]
    assert function.registers * cut.threads * cut.blocks <= REGISTERS
    loop, samples = main_loop(name, function, size)
    assert len(loop) / samples <= MOST[name][size == 4]
    listing = "\n".join(function.instructions)
    assert ("RED.E.ADD.F32x4" in listing or "REDG.E.ADD.F32x4" in listing) == (
        name == "scatter" and architecture >= 90
    )


@pytest.mark.parametrize("channels", [1, 33, 64, 70, 128])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_every_width_fit_every_architecture(kind: str, channels: int) -> None:
    for points in (1, 4, 16, 50):
        for memory, most in ARCHITECTURES.values():
            of_files = cuts(channels, points, KINDS[kind].itemsize, memory * 1024)
            for source, cut in of_files.items():
                assert cut.shared <= most * 1024, source
                if channels <= 70:  # one alone would wait while it sorts
                    assert 2 * (cut.shared + 1024) <= memory * 1024
                    assert memory < 228 or cut.blocks * (cut.shared + 1024) <= memory * 1024


ODD = list(product((1, 8, 16, 33, 64, 70, 128), (1, 3, 16, 50)))  # channels, points
TYPES = list(product(KINDS, KINDS))
ROUND = list(product(ARCHITECTURES, (True, False)))
# Every width and count of points with every pair of types; each pair meets every architecture and
# border in turn.
TURNS = [
    (case, types, *ROUND[(number + number // len(ROUND) + number // len(ODD)) % len(ROUND)])
    for number, (types, case) in enumerate(product(TYPES, ODD))
]


@pytest.mark.parametrize("source", FILES)
@pytest.mark.parametrize(
    ("case", "types", "architecture", "clamp"), TURNS if EVERY else TURNS[::43]
)
def test_odd_cases_compile(
    case: tuple[int, int], types: tuple[str, str], architecture: int, clamp: bool, source: str
) -> None:
    (channels, points), (kind, places) = case, types
    memory = ARCHITECTURES[architecture][0] * 1024
    cut = cuts(channels, points, KINDS[kind].itemsize, memory)[source]
    code = launch(kind, clamp, channels, points, places).code(source, cut)
    assert compile(code, architecture)[:4] == b"\x7fELF"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("exact", [0, 1])
def test_the_kernels_of_channels_are_short_and_add_without_reading_back(
    exact: int, architecture: int, tmp_path: Path
) -> None:
    macros = (("CLAMP", 0), ("THREADS", cuda_channels.THREADS), ("EXACT", exact))
    code = Code(source="cuda_channels.cu", macros=macros)
    found = functions(code, architecture, tmp_path)
    for name, most in {"read_channels": 160, "differentiate_channels": 280}.items():
        function = found[name]
        assert not function.stack
        assert function.registers <= 40
        assert sum(i.strip() != "NOP" for i in function.instructions) <= most
    listing = "\n".join(found["differentiate_channels"].instructions)
    kind = r"E\.ADD\.64" if exact else r"E\.ADD\.F32"
    assert len(re.findall(rf"REDG?\.{kind}", listing)) == 4
    assert "ATOM" not in listing


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", KINDS if EVERY else LEAST[0][:1])
def test_the_deterministic_kernel_holds_its_sums_in_registers(
    kind: str, architecture: int, tmp_path: Path
) -> None:
    memory = ARCHITECTURES[architecture][0] * 1024
    cut = cuda_launch.scatter_cut(70, 16, KINDS[kind].itemsize, exact=True, memory=memory)
    code = launch(kind, True, exact=True).code("cuda_scatter.cu", cut)
    function = functions(code, architecture, tmp_path)["scatter"]
    assert not any(function.spills(loop) for loop in function.inner_loops())
    assert function.stack <= 80
    assert function.registers * cut.threads * cut.blocks <= REGISTERS
    walk = max(map(function.body, function.inner_loops()), key=lambda body: count(body, "F2I"))
    assert count(walk, "F2I") == 2 * 2 * 8  # two entries, left and right, 8 channels
    assert len(walk) / (2 * 32 / 9) <= 56
    assert not re.search(r"RED\S*F32", "\n".join(function.instructions))


def test_the_page_says_what_is_expected_of_the_kernels() -> None:
    pages = Path(__file__).parents[1] / "docs"
    page = " ".join((pages / "performance.md").read_text().split())
    number = r"([\d.]+)"
    told = f"{number} to {number} ms forward and {number} to {number} ms with backward"
    (found,) = re.findall(told, page)
    counted = [time for times in expected.whole("bf16") for time in times]
    assert [float(time) for time in found] == pytest.approx(counted, rel=0.1)
