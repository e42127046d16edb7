"""What is installed holds everything that runs, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEFT_OUT = "__pycache__"


def test_a_wheel_holds_every_file_of_the_package_and_none_of_the_laboratory(
    tmp_path: Path,
) -> None:
    pytest.importorskip("setuptools", minversion="77", reason="setuptools is not installed here")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "mtlcli", tmp_path / "mtlcli", ignore=lambda *_: [LEFT_OUT])
    shutil.copytree(ROOT / "weights" / "nyud_small", tmp_path / "weights" / "nyud_small")
    build = "from setuptools.build_meta import build_wheel; build_wheel('wheels')"
    subprocess.run(
        [sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True, timeout=200
    )
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {p.relative_to(tmp_path).as_posix() for p in (tmp_path / "mtlcli").rglob("*.*")}
    assert {name for name in packed if not name.startswith("mtlcli-")} == files
