"""Makes every error of mutants.py in a copy of the repository and sees whether a test notices.

    python tests/mutants/run.py [--jobs 2] [--only itsa augment-3] [--out FILE]

By hand, not in CI: the whole list takes about an hour on one core. What was found out stays in
FILE, a line of JSON each, and is not done again while the mutated file and the tests are the same. At
the end the survivors are listed; the exit code is 1 if there are any.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory, gettempdir

from mutants import GROUPS

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", "*.egg-info")
SECONDS = 900  # after which a mutant counts as noticed: it does not end


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One error in one file."""

    name: str
    path: Path  # from the root
    old: str
    new: str
    tests: tuple[str, ...]  # files, from the root

    def mutated(self) -> str:
        """The file with the error in it; the text to replace must be there once."""
        content = (ROOT / self.path).read_text()
        count = content.count(self.old)
        if count != 1:
            raise SystemExit(f"{self.name}: {self.path} has {self.old!r} {count} times.")
        return content.replace(self.old, self.new)

    def key(self) -> str:
        """Changes with the mutated file and the tests."""
        texts = [self.mutated(), *((ROOT / test).read_text() for test in self.tests)]
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def list_mutants(only: list[str]) -> list[Mutant]:
    """All of them, or those of the named groups and names."""
    found = [
        Mutant(
            name=f"{group}-{number}",
            path=Path("mtlcli", file),
            old=old,
            new=new,
            tests=tuple(f"tests/test_{test}.py" for test in tests.split()),
        )
        for group, (file, tests, edits) in GROUPS.items()
        for number, (old, new) in enumerate(edits, 1)
    ]
    return [m for m in found if not only or {m.name, m.name.rpartition("-")[0]} & set(only)]


def attempt(mutant: Mutant, copy: Path) -> str:
    """Run its tests on it in a copy of the repository: noticed, survived or broken."""
    target = copy / mutant.path
    before = target.read_text()
    target.write_text(mutant.mutated())
    os.utime(target, ns=(time.time_ns(), time.time_ns()))
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "-p", "no:cacheprovider"]
    variables = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    variables |= {"PYTHONDONTWRITEBYTECODE": "1"}
    try:
        ended = subprocess.run(
            [*command, *mutant.tests], cwd=copy, env=variables, capture_output=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return "noticed"
    finally:
        target.write_text(before)
    return {0: "survived", 1: "noticed", 2: "noticed"}.get(ended.returncode, "broken")


def main() -> int:
    """Run what was not run yet; print the survivors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--out", type=Path, default=Path(gettempdir(), "mtl_mutants.jsonl"))
    options = parser.parse_args()
    chosen = list_mutants(options.only)
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    known = {line["key"]: line["verdict"] for line in map(json.loads, lines)}
    todo = [mutant for mutant in chosen if mutant.key() not in known]
    print(f"{len(chosen)} mutants, {len(todo)} to run", flush=True)
    copies: SimpleQueue[Path] = SimpleQueue()

    def run(mutant: Mutant) -> None:
        copy = copies.get()
        verdict = attempt(mutant, copy)
        copies.put(copy)
        known[mutant.key()] = verdict
        with open(options.out, "a") as file:
            line = {"name": mutant.name, "key": mutant.key(), "verdict": verdict}
            print(json.dumps(line), file=file, flush=True)
        print(f"{mutant.name}: {verdict}", flush=True)

    with TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        for job in range(options.jobs):
            copy = Path(folder, str(job))
            shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
            copies.put(copy)
        for done in [pool.submit(run, mutant) for mutant in todo]:
            done.result()
    left = [m for m in chosen if known[m.key()] != "noticed"]
    print(f"{len(chosen) - len(left)} of {len(chosen)} noticed.")
    for mutant in left:
        print(
            f"{mutant.name} {known[mutant.key()]}: {mutant.path}: {mutant.old!r} -> {mutant.new!r}"
        )
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
