"""Machine code of the CUDA kernels is compiled once, kept whole, and never taken for another's."""

import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("cuda.bindings", reason="the bindings of CUDA are not installed")

from mtlcli.ops import cuda_compile
from mtlcli.ops.cuda_compile import Code, compile

ROOT = Path(__file__).parents[1]
MACROS = {
    "D": 5, "P": 2, "CLAMP": 1, "VALUE": 1, "OFFSET": 0, "LOGIT": 0, "LINES": 0, "UNITS": 1,
    "COPIES": 1, "TALL": 1, "WIDE": 48, "THREADS": 384, "BLOCKS": 2,
}  # fmt: skip
CODE = Code(source="cuda_forward.cu", macros=tuple(MACROS.items()))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def files() -> list[Path]:
    folder = cuda_compile.cache_dir()
    return sorted(folder.iterdir()) if folder.exists() else []


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources that NVRTC is given."""
    given: list[str] = []
    original = cuda_compile._compile

    def count(source: str, options: list[str]) -> bytes:
        given.append(source)
        return original(source, options)

    monkeypatch.setattr(cuda_compile, "_compile", count)
    return given


def test_sources_that_change_under_a_process_are_not_kept_under_the_name_of_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    for file in cuda_compile.SOURCES.glob("*.cu"):
        shutil.copy(file, sources)
    monkeypatch.setattr(cuda_compile, "SOURCES", sources)
    cuda_compile._texts.cache_clear()
    try:
        first = compile(CODE, 90)
        for file in sources.glob("*.cu"):
            file.write_text("#error changed")
        for file in files():
            file.unlink()
        assert compile(CODE, 90) == first
    finally:
        cuda_compile._texts.cache_clear()


def test_a_second_process_finds_what_the_first_compiled(compiled: list[str]) -> None:
    first = compile(CODE, 90)
    assert (compile(CODE, 90), len(compiled)) == (first, 1)
    command = [sys.executable, "-c", ASK.format(code=CODE)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment())
    assert done.stdout.split() == ["0", str(len(first))], done.stderr


ASK = """
from mtlcli.ops import cuda_compile
from mtlcli.ops.cuda_compile import Code
count, original = [], cuda_compile._compile
cuda_compile._compile = lambda *told: count.append(told) or original(*told)
code = cuda_compile.compile({code!r}, 90)
print(len(count), len(code))
"""


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "other"])
def test_a_damaged_file_is_compiled_again(damage: str, compiled: list[str]) -> None:
    wanted = compile(CODE, 90)
    (path,) = files()
    data = path.read_bytes()
    changed = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
    made = {"cut": data[: len(data) // 2], "changed": changed, "empty": b"", "other": b"x" * 99}
    path.write_bytes(made[damage])
    assert compile(CODE, 90) == wanted
    assert len(compiled) == 2
    assert path.read_bytes() == data


def test_what_the_code_depends_on_names_the_file(
    compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = replace(CODE, macros=tuple((MACROS | {"CLAMP": 0}).items()))
    texts = cuda_compile._texts()
    found = [compile(CODE, 90), compile(zeros, 90), compile(CODE, 80)]
    monkeypatch.setattr(cuda_compile, "nvrtc_version", lambda: (99, 0))
    compile(CODE, 90)
    monkeypatch.setattr(cuda_compile, "_texts", lambda: texts | {"more.cu": b"// another"})
    compile(CODE, 90)
    assert len(compiled) == 5
    assert len(files()) == 5
    assert len(set(found)) == 3


def test_the_texts_are_all_that_the_sources_include() -> None:
    names = {path.name for path in cuda_compile.SOURCES.glob("*.cu")}
    texts = cuda_compile._texts()
    assert set(texts) == names
    for text in texts.values():
        lines = text.decode().splitlines()
        included = {line.split('"')[1] for line in lines if line.startswith("#include")}
        assert included <= names


def test_two_processes_at_once_do_not_disturb_each_other() -> None:
    command = [sys.executable, "-c", ASK.format(code=CODE)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment())
        for _ in range(2)
    ]
    sizes = [process.communicate(timeout=200)[0].split()[1] for process in both]
    assert sizes[0] == sizes[1]
    assert [path.suffix for path in files()] == [".cubin"]


def test_without_a_folder_that_can_be_written_it_is_compiled_every_time(
    tmp_path: Path, compiled: list[str]
) -> None:
    (tmp_path / "mtl").write_text("a file where a folder should be")
    assert compile(CODE, 90) == compile(CODE, 90)
    assert len(compiled) == 2


def test_what_does_not_compile_is_one_line_and_is_not_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong = replace(CODE, macros=tuple((MACROS | {"WIDE": 47}).items()))
    with pytest.raises(RuntimeError, match=r"cuda_forward.cu: .*four queries") as caught:
        compile(wrong, 90)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(RuntimeError, match="NVRTC"):
        compile(CODE, 31)
    assert files() == []


def test_compiling_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            compile(CODE, 90)
    assert [r.message.split(" in ")[0] for r in caplog.records] == ["compiled cuda_forward.cu"]


def test_without_nvidias_package_triton_is_asked_and_then_plain_pytorch() -> None:
    said = (
        "import sys; sys.modules.update({'cuda.bindings': None, 'triton': None})\n"
        "from mtlcli.ops import choice, reference\n"
        "assert [choice.load('cuda') for _ in range(2)] == 2 * [reference.deformable_attention]"
    )
    done = subprocess.run(
        [sys.executable, "-c", said], capture_output=True, text=True, cwd=ROOT, env=environment()
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stderr.strip().splitlines()
    assert "no fused cuda kernels" in first
    assert "triton" in first
    assert "no fused triton kernels" in second
