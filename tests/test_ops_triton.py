"""The Triton operator without a GPU: interpreted, and compiled for sm_75, sm_80 and sm_90."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine_code import machine_code

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


def compiled(folder: Path, *cases: str, triton: str = "") -> list[dict]:
    """The kernels that launches of these cases compile, by the Triton of a folder if one is given.

    Compiled kernels are kept in a folder of their own, so that nothing is found compiled.
    """
    done = python(
        "tests/triton_compiled.py",
        str(folder),
        *cases,
        TRITON_CACHE_DIR=str(folder / "cache"),
        PYTHONPATH=os.pathsep.join(filter(None, (triton, str(HERE.parent)))),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


MOST = {"forward": 45, "differentiate": 90, "scatter": 60}  # warp instructions, main block
CASES = ("90-bf16", "90-fp32", "80-bf16", "80-fp32", "90-odd", "80-odd", "75-odd")
OLDEST = "3.5.0"  # of torch 2.9, the oldest that pyproject.toml admits
FOLDER = "MTL_OLD_TRITON"


@needs_triton
@pytest.mark.parametrize("architecture", ["90", "80"])
def test_what_is_launched_compiles_without_spills(architecture: str, tmp_path: Path) -> None:
    for kernel in compiled(tmp_path, *(case for case in CASES if case.startswith(architecture))):
        path, name = kernel["path"], kernel["name"]
        (function,) = machine_code(path)
        listing = "\n".join(function.instructions)
        assert function.stack == 0
        assert function.registers <= 168
        assert not function.spills()
        if kernel["block"] == 64 and (architecture == "90" or name != "scatter"):
            queries = kernel["tall"] * kernel["wide"]
            assert len(function.innermost()) * kernel["num_warps"] / queries <= MOST[name]
            wide_loads = len(re.findall(r"LDG\.E\.128", listing))
            wide_adds = len(re.findall(r"RED\S*F32x4", listing))
            assert (wide_adds if name == "scatter" else wide_loads) >= 4


@pytest.mark.skipif(
    FOLDER not in os.environ,
    reason=f"{FOLDER} names no folder: `pip install --no-deps --target FOLDER triton=={OLDEST}`",
)
def test_what_is_launched_compiles_with_the_oldest_triton(tmp_path: Path) -> None:
    kernels = compiled(tmp_path, *CASES, triton=os.environ[FOLDER])
    assert {kernel["triton"] for kernel in kernels} == {OLDEST}
    assert {kernel["case"] for kernel in kernels} == set(CASES)
    assert {kernel["name"] for kernel in kernels} == {"log_sum_exp", *MOST}
