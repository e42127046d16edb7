"""What the command line says of itself."""

import subprocess
import sys

import pytest

import mtlcli


def test_the_version_is_printed(mtl) -> None:
    answer = mtl("--version")
    assert (answer.code, answer.out, answer.err) == (0, f"{mtlcli.__version__}\n", "")


def test_the_package_run_as_a_module_prints_it_too() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "mtlcli", "--version"], capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout) == (0, f"{mtlcli.__version__}\n"), ran.stderr


ENDING = """
import atexit, sys, threading, time
from mtlcli import __main__ as command

class Heavy:
    def __del__(self):
        print("taken apart")

def work():
    time.sleep(0.5)
    print("worked on")

def main():
    {thread}
    atexit.register(print, "at the end")
    print("done", end=" ")
    sys.exit({code})

heavy = Heavy()
command.main = main
command.run()
"""
WORKS = "threading.Thread(target=work).start()"


@pytest.mark.parametrize(
    ("thread", "code", "wanted", "said"),
    [
        ("", "0", 0, "done at the end\n"),
        ("", "3", 3, "done at the end\n"),
        (WORKS, "4", 4, "done worked on\nat the end\ntaken apart\n"),
        ("", "'why'", 1, "done at the end\ntaken apart\n"),
    ],
)
def test_a_command_ends_when_all_is_done_and_nothing_is_taken_apart(
    thread: str, code: str, wanted: int, said: str
) -> None:
    text = ENDING.format(thread=thread, code=code)
    ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (wanted, said), ran.stderr


def test_the_labels_that_boundaries_are_scored_on_are_named(mtl) -> None:
    words = " ".join(mtl("boundary", "--help").out.split())
    assert "BSDS or PASCAL-Context .mat" in words


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("eval A B", "(B). `mtl eval --help`"),
        ("data A B C", "(B C). `mtl data --help`"),
        ("systems A B", "(B). `mtl systems --help`"),
        ("bench attention A", "(A). `mtl bench attention --help`"),
        ("export", "Missing argument 'run'. `mtl export --help`"),
        ("systems --jsn", "no option --jsn. Did you mean --json?"),
        ("--bogus", "no option --bogus. `mtl --help`"),
        ("trian", "'trian'. Did you mean 'train'?"),
        ("bench modle", "'modle'. Did you mean 'model'?"),
        ("visualize a.jpg --layout ,", "--layout ,: it is empty"),
        ("visualize a.jpg --tasks=,", "--tasks ,: it is empty"),
        ("visualize --dataset", "'--dataset' requires an argument. `mtl visualize --help`"),
        ("train --iterations many", "'--iterations'"),
        ("train --iterations many", "not 'many'"),
        ("train --lr=much", "not 'much'"),
        ("bench model --size 3 wide", "not '3 wide'"),
        ("eval --limit 0 A", "not '0'"),
    ],
)
def test_a_line_that_cannot_be_used_is_answered_by_one(mtl, line: str, named: str) -> None:
    answer = mtl(*line.split())
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith("mtl: ")
    assert named in answer.err


@pytest.mark.parametrize("line", ["", "bench"])
def test_no_command_prints_the_help_as_it_is_laid_out(mtl, line: str) -> None:
    answer = mtl(*line.split())
    assert answer.code == 2
    assert "\nCommands:\n" in answer.out + answer.err
