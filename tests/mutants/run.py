"""Makes every error of mutants.py in a copy of the repository and sees whether a test notices.

    python tests/mutants/run.py [--jobs 2] [--only itsa augment-3] [--out FILE]

By hand, not in CI: the whole list takes hours on two cores. What was found out stays in
FILE, a line of JSON each, and is not done again while the mutated file and the tests are the
same. At the end the survivors are listed; the exit code is 1 if there are any.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import pytest
from mutants import GROUPS

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", "*.egg-info")
SECONDS = 900  # after which a mutant counts as noticed: it does not end
OPTIONS = ("-n", "0", "-x", "-q", "-p", "no:cacheprovider")
PRELOADED = ("torch", "torchvision", "cv2", "h5py", "numba", "scipy.io", "skimage.morphology")
CONTEXT = multiprocessing.get_context("fork")  # a process for each mutant, packages loaded already
COPIES = CONTEXT.Queue()  # of the repository, those that no process uses


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


def attempt(mutant: Mutant) -> tuple[Mutant, str]:
    """Run its tests on it in a copy of the repository: noticed, survived or broken."""
    copy = COPIES.get()
    target = copy / mutant.path
    before, times = target.read_text(), target.stat()
    target.write_text(mutant.mutated())
    os.utime(
        target, (int(mutant.key()[:7], 16),) * 2
    )  # no compiled file of another is taken for it
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)
    sys.path.insert(0, str(copy))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(SECONDS)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        codes = (pytest.main([*OPTIONS, test]) for test in mutant.tests)
        code = next((code for code in codes if code), 0)  # the first file that fails is enough
    finally:
        target.write_text(before)
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
        COPIES.put(copy)
    return mutant, {0: "survived", 1: "noticed", 2: "noticed"}.get(int(code), "broken")


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
    for module in PRELOADED:
        import_module(module)
    with TemporaryDirectory() as folder, open(options.out, "a") as file:
        for job in range(options.jobs):
            copy = Path(folder, str(job))
            shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
            COPIES.put(copy)
        with CONTEXT.Pool(options.jobs, maxtasksperchild=1) as pool:
            for mutant, verdict in pool.imap_unordered(attempt, todo, chunksize=1):
                known[mutant.key()] = verdict
                line = {"name": mutant.name, "key": mutant.key(), "verdict": verdict}
                print(json.dumps(line), file=file, flush=True)
                print(f"{mutant.name}: {verdict}", flush=True)
    left = [m for m in chosen if known[m.key()] != "noticed"]
    print(f"{len(chosen) - len(left)} of {len(chosen)} noticed.")
    for mutant in left:
        print(
            f"{mutant.name} {known[mutant.key()]}: {mutant.path}: {mutant.old!r} -> {mutant.new!r}"
        )
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
