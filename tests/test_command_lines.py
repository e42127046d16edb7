"""Hostile command lines, made up from what the commands themselves say that they take: each ends in
time, with a result or with one line and its exit code.

`MTL_COMMAND_LINES=2000 python -m pytest -n 0 -s tests/test_command_lines.py` tries so many and
prints how they ended and which took longest; MTL_COMMAND_SEED makes others.
"""

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from mtlcli.cli import app

LINES = int(os.environ.get("MTL_COMMAND_LINES", "60"))
SEED = int(os.environ.get("MTL_COMMAND_SEED", "0"))
PATIENCE = 60  # seconds for a line, on a machine that has other work
HOSTILE = [
    "", " ", "/", ".", "..", "../..", "x" * 5000, "x" * 250, "a/" * 3000, "nan", "inf", "-inf",
    "-1", "0", "1e26", "9" * 26, "4300000000", "-" + "9" * 26, "0x10", "1_0", "٣", "\udcff\udcfe",
    "a\nb", "a\tb", "\x07", "--", "-", "~", "*", "[", "{}", "{id}", "%s", "NaN", "None", "true",
    "/dev/null", "/proc/self/mem", "picture.png", "run", "run/last.pt", "weights", "gone.h5",
    "datasets/rooms.h5", "rooms", "edge", "depth,normals", "val", "train/present", "train/../val",
    "noise.bin", "empty", "loop", "🙂", "ü ber (1)", "hf:", "hf:a/b",
    "timm:", "timm:resnet18", "'; rm -rf x", "<b>", "1x1", "1e-400", "1e400", "made.onnx",
    "made.pt2", "cut.pt2", "cut.onnx", "https://", "http://[bad", "http://0x7f.1/a.png",
    "file:///etc/passwd", "http://nowhere.invalid/a.png", "http://[::1]:9/" + "a" * 5000,
    "picture,,depth", "overlay,nan", "measured", "album", "90", "1e-9", "1e9",
]  # fmt: skip
SMALL = ["--batch-size", "2", "--iterations", "1", "--size", "64", "64", "--workers", "0",
         "--device", "cpu", "--system", "multi_task", "--init", "random", "--quiet"]  # fmt: skip
FAST = "--device cpu --quiet"
BASES = (  # command and what makes a right and quick line of it; what is hostile comes after
    ("train", f"--dataset rooms --backbone resnet18_half {' '.join(SMALL)}"),
    ("eval", f"run --workers 0 {FAST} --limit 1"),
    ("eval", f"run --fit-scale measured {FAST}"),
    ("eval", f"made.pt2 --workers 0 {FAST} --limit 1"),
    ("visualize", f"picture.png --checkpoint run {FAST}"),
    ("visualize", f"picture.png --checkpoint made.onnx {FAST}"),
    ("visualize", f"picture.png made.pt2 --compare run made.pt2 {FAST}"),
    ("visualize", f"album --recursive --separate --checkpoint run {FAST}"),
    ("visualize", f"picture.png --points picture --fov 60 --checkpoint run {FAST}"),
    ("visualize", f"picture.png --points picture --focal 50 --checkpoint run {FAST}"),
    ("visualize", f"picture.png --layout picture,depth --colormap turbo --checkpoint run {FAST}"),
    ("visualize", f"http://127.0.0.1:9/a.png --checkpoint run {FAST}"),
    ("visualize", f"--dataset rooms --index 0 --checkpoint run {FAST}"),
    ("prepare", "rooms --train 1 --val 1 --size 32 32 --out made.h5 --workers 1 --quiet --force"),
    ("prepare", "own.yaml --workers 1 --quiet --force"),
    ("data", "datasets/rooms.h5 --quiet"),
    ("report", "run"),
    ("boundary", "pred pred --workers 1 --quiet"),
    ("export", "run --format pt2 --size 32 32 --out made.pt2 --quiet"),
    ("export", "run --format onnx --size 32 32 --out new.onnx --quiet"),
    ("pack", "run"),
    ("doctor", ""),
    ("systems", "demt_itsa"),
    ("backbones", ""),
    ("recipes", ""),
    ("experiment", "rooms_systems --table"),
    ("import-demt", "noise.bin"),
    ("demo", "--iterations 0"),
    ("serve", "gone --host 203.0.113.1 --port 1"),  # an address that no machine has
    ("serve", "made.pt2 --host 203.0.113.1 --port 1"),
    ("bench model", "--dataset rooms --params-only --backbone resnet18_half --system multi_task "
                    "--device cpu"),
    ("bench attention", "--size 0 0 --device cpu"),
)  # fmt: skip
SAFE = {"--seeds", "--jobs", "--iterations", "--repeats", "--slow", "--costs", "--table", "--keep",
        "--download-dir", "--no-params-only", "--compile", "--resume", "--size"}  # fmt: skip
"""Options whose larger values are honest work, or change the machine: they get bad values only."""
OWN = """size: [32, 32]
splits: {train: [a], val: [b]}
image: own/{id}.png
tasks: {depth: {files: "own/{id}.npy"}}
"""
BAD = ["", "nan", "1e26", "9" * 26, "-1", "x" * 5000, "a\nb", "\udcff"]


def commands() -> dict[str, Any]:
    """Every command by the words that call it."""
    tree = typer.main.get_command(app)
    found = {}
    for name, command in tree.commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        found |= {f"{name} {n}": c for n, c in below.items()} if below else {name: command}
    return found


def lines(count: int, seed: int) -> Iterator[list[str]]:
    """So many command lines."""
    chance, known = random.Random(seed), commands()
    assert known.keys() == {name for name, _ in BASES}, "a command has no line of its own here"
    for number in range(count):
        name, words = BASES[number % len(BASES)]
        line = words.split()
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            line = spoil(line, known[name], chance)
        yield [*name.split(), *line]


def spoil(line: list[str], command: Any, chance: random.Random) -> list[str]:
    """The line with one more hostile word or option."""
    kind = chance.random()
    if kind < 0.15:
        return [*line, chance.choice((*HOSTILE, "--no-such-option", "-z", "--out="))]
    if kind < 0.3 and line and not line[0].startswith("-"):
        return [chance.choice(HOSTILE), *line[1:]]
    options = [p for p in command.params if p.opts[0].startswith("--")]
    if not options:
        return [*line, chance.choice(HOSTILE)]
    option = chance.choice(options)
    if getattr(option, "is_flag", False):
        return line if option.opts[0] in SAFE else [*line, option.opts[0]]
    values = BAD if option.opts[0] in SAFE else HOSTILE
    return [*line, option.opts[0], *(chance.choice(values) for _ in range(max(1, option.nargs)))]


@pytest.fixture
def place(home: Path, save_network: Callable, mtl: Callable) -> Path:
    """A home in which every line of `BASES` can work."""
    small = ["--backbone", "resnet18_half", "--task", "depth", "--task", "edge", *SMALL]
    assert mtl("train", "--dataset", "rooms", *small, "--out", "run").code == 0
    Image.new("RGB", (48, 40), (9, 99, 199)).save("picture.png")
    Path("pred").mkdir()
    lines = (np.mgrid[:24, :32][1] % 8 == 0).astype(np.uint8) * 255
    Image.fromarray(lines).save("pred/a.png")
    Path("album/below").mkdir(parents=True)
    Path("album/below/b.jpg").write_bytes(Path("picture.png").read_bytes())
    Path("measured").mkdir()
    Path("measured/a.png").write_bytes(Path("picture.png").read_bytes())
    np.save("measured/a.npy", np.linspace(1, 5, 40 * 48, dtype=np.float32).reshape(40, 48))
    shutil.copytree("measured", "own")
    for end in ("png", "npy"):
        shutil.copy(f"own/a.{end}", f"own/b.{end}")
    Path("own.yaml").write_text(OWN)
    runs = find_spec("onnxruntime") and find_spec("onnxscript")
    for kind in ("pt2", "onnx") if runs else ("pt2",):
        written = mtl("export", "run", "--format", kind, "--size", 32, 32, "--out", f"made.{kind}")
        assert not written.code, written.err
        Path(f"cut.{kind}").write_bytes(Path(f"made.{kind}").read_bytes()[:5000])
    Path("noise.bin").write_bytes(bytes(range(256)) * 20)
    Path("empty").touch()
    Path("loop").symlink_to("loop")
    return home


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # of a page that is broken off
def test_no_command_line_ends_in_a_traceback(place: Path, mtl: Callable) -> None:
    ends: Counter[str] = Counter()
    wrong: list[str] = []
    took: list[tuple[float, str]] = []

    def give_up(*_: object) -> None:
        raise TimeoutError(f"longer than {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, give_up)
    try:
        for line in lines(LINES, SEED):
            signal.alarm(PATIENCE)
            since = time.monotonic()
            answer = mtl(*line)
            signal.alarm(0)
            said, shown = judge(answer.code, answer.err), " ".join(repr(word[:40]) for word in line)
            took.append((time.monotonic() - since, shown))
            ends[said or f"exit code {answer.code}"] += 1
            if said:
                wrong.append(f"{said}: {shown}: {answer.err[-300:]}")
                print(f"line {len(took)}: {wrong[-1]}", flush=True)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    print(f"\n{LINES} lines: {dict(ends)}; the slowest:")
    print("\n".join(f"{seconds:.0f} s: {shown}" for seconds, shown in sorted(took)[-10:]))
    assert not wrong, "\n".join(wrong)


def judge(code: int, err: str) -> str:
    """What is wrong with an answer, "" if nothing is."""
    if "Traceback" in err or "MTL_DEBUG=1" in err:
        return "unexpected error"
    if code not in (0, 1, 2):
        return f"exit code {code}"
    own = [line for line in err.splitlines() if line.startswith("mtl: ")]
    if code and not own and "Error: " not in err:
        return "no reason"
    return ""


def test_the_judge_can_condemn() -> None:
    assert judge(1, "mtl: KeyError: 'x'. MTL_DEBUG=1 shows the traceback.\n")
    assert judge(1, "Traceback (most recent call last):\n")
    assert judge(-11, "")
    assert judge(2, "")
    assert not judge(2, "mtl: --lr nan: a finite number is needed.\n")
