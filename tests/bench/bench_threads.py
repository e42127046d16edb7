"""What it costs that waiting threads sleep, and what it saves where other programs want the cores.

    python tests/bench/bench_threads.py [--rounds 3] [--iterations 25] [--also GOMP_SPINCOUNT=1000]

Trains the demo's network in turns, in fresh processes: with the environment of the command, with
that of former versions (threads spin), and with one thread; alone, and beside as many busy
processes as there are cores. Prints the median step of each, in milliseconds, and the ratios;
--also adds a variable to the command's environment, as one more to compare. The machine should have
nothing else to do.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

from mtlcli.home import COUNTS, choose_environment, own_cores, quota
from mtlcli.runs.table import markdown

RUNTIME = (*COUNTS, "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "MKL_NUM_THREADS")
WARM_UP = 5  # steps that are not counted
BUSY = "while True: pass"
OURS, SPINNING, ONE = "of the command", "threads spin", "one thread"


def environments(also: list[str]) -> dict[str, dict[str, str]]:
    """Name -> environment of a training process; each of `also` is NAME=VALUE."""
    bare = {name: value for name, value in os.environ.items() if name not in RUNTIME}
    ours = choose_environment(bare, own_cores(), quota())
    spinning = {name: value for name, value in ours.items() if name in COUNTS}
    return {
        OURS: bare | ours,
        SPINNING: bare | spinning,
        ONE: bare | ours | {"OMP_NUM_THREADS": "1"},
        **{each: bare | ours | dict([each.split("=", 1)]) for each in also},
    }


def train(folder: Path, iterations: int) -> None:
    """A part of the demo's run, into a folder that is new."""
    from mtlcli.commands import demo
    from mtlcli.runs.config import Conduct
    from mtlcli.training.loop import train

    config = replace(demo.BUDGET, iterations=iterations)
    train(config, out=folder, conduct=Conduct(device="cpu", quiet=True))


def prepare() -> None:
    """The demo's rooms, fewer of them."""
    from mtlcli.data.prepare import prepare

    prepare("rooms", size=(120, 160), train=32, val=1, quiet=True)


def steps(environment: dict[str, str], iterations: int) -> list[float]:
    """Seconds of each counted step of a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, __file__, "--into", str(run), "--iterations", str(iterations)]
        subprocess.run(command, check=True, env=environment)
        lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["speed"]["step_s"] for line in lines[WARM_UP:]]


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Within it, so many processes compute without a pause."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def measure(rounds: int, iterations: int, also: list[str]) -> dict[str, dict[str, list[float]]]:
    """Load -> environment -> the median step of every turn."""
    loads = {"alone": 0, f"beside {own_cores()} busy processes": own_cores()}
    found: dict[str, dict[str, list[float]]] = {load: {} for load in loads}
    for turn in range(rounds):
        order = list(environments(also).items())
        for load, processes in loads.items():
            for name, environment in order if turn % 2 == 0 else order[::-1]:
                with busy(processes):
                    seconds = median(steps(environment, iterations))
                found[load].setdefault(name, []).append(seconds)
                print(f"{load}, {name}: {1e3 * seconds:.0f} ms", file=sys.stderr, flush=True)
    return found


def table(found: dict[str, dict[str, list[float]]]) -> str:
    """Milliseconds (over all turns: median, least to most) and ratios."""
    head = ["where", "environment", "step, ms", f"over '{SPINNING}'", f"over '{ONE}'"]
    rows = []
    for load, turns in found.items():
        middle = {name: median(seconds) for name, seconds in turns.items()}
        for name, seconds in middle.items():
            least, most = (f"{1e3 * bound(turns[name]):.0f}" for bound in (min, max))
            ratios = [f"{seconds / middle[other]:.2f}" for other in (SPINNING, ONE)]
            rows.append([load, name, f"{1e3 * seconds:.0f} ({least} to {most})", *ratios])
    return markdown(head, rows)


def main() -> None:
    """Options, work, table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--also", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.into:
        train(options.into, options.iterations)
        return
    with tempfile.TemporaryDirectory() as home:
        os.environ["MTL_HOME"] = home
        prepare()
        print(table(measure(options.rounds, options.iterations, options.also)))


if __name__ == "__main__":
    main()
