"""Kill a short training run with SIGKILL at random moments, resume it each time, and compare.

    python tests/bench/bench_resume.py --kills 50

Prints how many runs were completed in between; fails where weights, momentum, generators or the log
differ in one bit from those of a run never disturbed.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from mtlcli import lookup
from mtlcli.data.prepare import prepare
from mtlcli.runs import checkpoint
from mtlcli.runs.config import Conduct, RunConfig
from mtlcli.runs.folder import read_log
from mtlcli.training import loop as train

CONFIG = RunConfig(
    dataset="rooms",
    init="random",
    tasks=("semseg", "depth"),
    settings={"steps": 1, "width": 16, "position_channels": 8, "points": 2, "feedforward": 16,
              "query": "pixel"},
    iterations=12,
    batch_size=2,
    backbone_lr_factor=0.5,
    warmup=4,
    schedule="cosine",
    clip=1.0,
    ema=0.9,
)  # fmt: skip
CONDUCT = Conduct(device="cpu", workers=1, checkpoint_every=3, quiet=True)


def work(folder: Path) -> None:
    """Begin the run or continue it, whichever its folder asks for."""
    torch.set_num_threads(1)
    if (folder / "run.json").exists():
        train.resume(folder, {}, conduct=CONDUCT)
    else:
        train.train(CONFIG, out=folder, conduct=CONDUCT)


def start(folder: Path) -> int:
    """A process that works on the run; this one never computes, so that it can be forked."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work(folder)
        code = 0
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    os._exit(code)


def finish(folder: Path) -> float:
    """Seconds that the rest of the run takes."""
    began = time.perf_counter()
    _, status = os.waitpid(start(folder), 0)
    assert status == 0, "a run failed"
    return time.perf_counter() - began


def outcome(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The last checkpoint and the log without its timings."""
    lines = [{k: v for k, v in line.items() if k != "speed"} for line in read_log(folder)]
    return checkpoint.read(folder), lines


def same(a: Any, b: Any) -> bool:
    """Equality of nested records, tensors bit by bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def survive(home: Path, kills: int, seed: int) -> int:
    """Kill and resume so often; returns how many runs were completed and compared."""
    chance = random.Random(seed)
    seconds = finish(home / "whole")
    expected, completed, folder = outcome(home / "whole"), 0, home / "killed0"
    for _ in range(kills):
        pid = start(folder)
        time.sleep(chance.uniform(0, seconds))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if is_complete(folder):
            completed, folder = completed + 1, home / f"killed{completed + 1}"
            assert same(list(expected), list(outcome(home / f"killed{completed - 1}")))
    finish(folder)
    assert same(list(expected), list(outcome(folder))), "a resumed run differs"
    return completed + 1


def is_complete(folder: Path) -> bool:
    """Whether the last checkpoint is the last iteration's."""
    last = folder / "last.pt"
    return last.exists() and checkpoint.read(last)["iteration"] == CONFIG.iterations


def main() -> None:
    """Options, work, one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for room, name in (("systems", CONFIG.system), ("backbones", CONFIG.backbone)):
        lookup.load(room, name)  # once, not in every process
    for task in CONFIG.tasks:
        lookup.load("tasks", task)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MTL_HOME"] = folder
        path = Path(folder) / "datasets" / "rooms.h5"
        path.parent.mkdir()
        prepare("rooms", size=(48, 64), train=8, val=1, out=path, workers=1, quiet=True)
        runs = survive(Path(folder), options.kills, options.seed)
    print(json.dumps({"kills": options.kills, "runs": runs, "equal": True}))


if __name__ == "__main__":
    main()
