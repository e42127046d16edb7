"""The Triton operator without a GPU: interpreted, and compiled ahead of time for sm_80, sm_90."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TRITON = importlib.util.find_spec("triton")
needs_triton = pytest.mark.skipif(TRITON is None, reason="triton is not installed")


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=HERE.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        timeout=280,
    )


@needs_triton
def test_the_interpreted_kernels_equal_the_reference():
    done = python("-m", "pytest", "-q", "tests/triton_interpreted.py", TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout[-4000:]


def test_without_triton_plain_pytorch_answers_after_one_line():
    done = python(
        "-c",
        "import sys; sys.modules['triton'] = None\n"
        "from mtlcli.ops import choice, reference\n"
        "assert [choice.load('triton') for _ in range(2)] == 2 * [reference.deformable_attention]",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no fused triton kernels") == 1


def tool(name: str) -> str:
    """A program that comes with Triton, or that the system has."""
    assert TRITON is not None
    assert TRITON.origin is not None
    beside = Path(TRITON.origin).parent / "backends/nvidia/bin" / name
    found = str(beside) if beside.exists() else shutil.which(name)
    return found or pytest.skip(f"{name} is not here, which reads compiled kernels")


def compiled(name: str, cut, kind: str, architecture: int, clamp: bool, folder: Path) -> Path:
    """A kernel's machine code, as launched for 4 heads of 70 channels, 12 maps and 16 points."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from mtlcli.ops import triton_backward, triton_forward, triton_launch
    from mtlcli.ops.triton_cuts import pitch

    kernel = getattr(triton_forward, name, None) or getattr(triton_backward, name)
    constants = {"HEADS": 4, "LEVELS": 12, "POINTS": 16, "CHANNELS": 70, "PITCH": pitch(70)}
    constants["CLAMP"] = clamp
    if name == "log_sum_exp":
        block, chunk = triton_launch.SOFTMAX_QUERIES, triton_launch.SOFTMAX_CHUNK
        constants |= {"SAMPLES": 192, "BLOCK": block, "CHUNK": chunk}
    else:
        constants |= {"FIRST": cut.first, "BLOCK": cut.block, "TALL": cut.tall, "WIDE": cut.wide}
    values = dict.fromkeys(("value", "out", "grad_out"), f"*{kind}") | {"maps": "*i32"}
    numbers = ("queries", "height", "width", "rows")
    signature = {}
    for argument in kernel.arg_names:
        if argument in constants:
            signature[argument] = "constexpr"
        elif argument in numbers or "_per_" in argument:
            signature[argument] = "i32"
        else:
            signature[argument] = values.get(argument, "*fp32")
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, (argument, stored) in enumerate(signature.items())
        if stored.startswith("*") or argument.endswith("_per_query")
    }
    made = triton.compile(
        ASTSource(
            fn=kernel,
            signature=signature,
            constexprs={a: v for a, v in constants.items() if a in signature},
            attrs=aligned,
        ),
        target=GPUTarget("cuda", architecture, 32),
        options={"num_warps": cut.warps if cut else 4, **triton_launch.OPTIONS},
    )
    path = folder / f"{name}.cubin"
    path.write_bytes(made.asm["cubin"])
    return path


def loop_instructions(listing: str) -> int:
    """Instructions of the innermost loop: from a label to the shortest branch back to it."""
    labels, branches, count = {}, [], 0
    for line in listing.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = count
        elif re.search(r"/\*[0-9a-f]{4,}\*/\s+\S+.*;", line):
            count += 1
            target = re.search(r"BRA.*(\.L_x_\d+)", line)
            if target and target[1] in labels and count - labels[target[1]] > 4:
                branches.append(count - labels[target[1]])
    return min(branches)


MOST = {"forward": 45, "differentiate": 90, "scatter": 60}  # warp instructions, main block
CASES = [(90, "bf16", True), (90, "fp32", False), (80, "bf16", False), (80, "fp32", True)]


@needs_triton
@pytest.mark.parametrize(("architecture", "kind", "clamp"), CASES)
@pytest.mark.parametrize("name", ["log_sum_exp", "forward", "differentiate", "scatter"])
def test_compiles_without_spills(name, architecture, kind, clamp, tmp_path):
    from mtlcli.ops.triton_cuts import cuts

    if name == "log_sum_exp":
        launches = [None] if kind == "fp32" else []
    else:
        launches = cuts(name, 70, 2 if kind == "bf16" else 4, architecture)
        launches = launches if architecture == 90 and clamp else launches[:1]
    for cut in launches:
        path = compiled(name, cut, kind, architecture, clamp, tmp_path)
        usage = subprocess.run(
            [tool("cuobjdump"), "--dump-resource-usage", path], capture_output=True, text=True
        ).stdout
        registers, stack = (int(re.search(rf"{k}:(\d+)", usage)[1]) for k in ("REG", "STACK"))
        listing = subprocess.run([tool("nvdisasm"), "-c", path], capture_output=True, text=True)
        assert stack == 0, usage
        assert registers <= 168
        assert not re.search(r"\b(STL|LDL)\b", listing.stdout)
        if cut and cut.block == 64 and (architecture == 90 or name != "scatter"):
            queries = cut.tall * cut.wide
            assert loop_instructions(listing.stdout) * cut.warps / queries <= MOST[name]
            wide_loads = len(re.findall(r"LDG\.E\.128", listing.stdout))
            wide_adds = len(re.findall(r"RED\S*F32x4", listing.stdout))
            assert (wide_adds if name == "scatter" else wide_loads) >= 4
