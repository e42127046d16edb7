"""What the command line says of itself."""

import subprocess
import sys

import mtlcli


def test_the_version_is_printed(mtl) -> None:
    answer = mtl("--version")
    assert (answer.code, answer.out, answer.err) == (0, f"{mtlcli.__version__}\n", "")


def test_the_package_run_as_a_module_prints_it_too() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "mtlcli", "--version"], capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout) == (0, f"{mtlcli.__version__}\n"), ran.stderr


def test_the_labels_that_boundaries_are_scored_on_are_named(mtl) -> None:
    words = " ".join(mtl("boundary", "--help").out.split())
    assert "BSDS or PASCAL-Context .mat" in words
