"""Makes every error of mutants.py in a copy of the repository and sees whether a test notices.

    python tests/mutants/run.py [--jobs 2] [--only itsa augment-3] [--out FILE]

By hand, not in CI. What was found out stays in FILE, a line of JSON each, and is not done again
while the mutated file and the tests are the same. Tests that have been quick so far come first, as
most errors are noticed by one of them; FILE with .seconds behind it remembers. At the end every
test that noticed something has to pass in the unchanged copy, and the survivors are listed; the
exit code is 1 if there are any.
"""

import argparse
import bisect
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
from typing import Any

import pytest
from mutants import GROUPS

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", "__pycache__", ".*_cache", "*.egg-info")
SECONDS = 900  # after which a mutant counts as noticed: it does not end
OPTIONS = ("-n", "0", "-q", "-p", "no:cacheprovider")
QUICK, SLOW = 0.5, 5.0  # seconds of a test
PRELOADED = (
    "torch", "torchvision", "cv2", "h5py", "numba", "scipy.io", "skimage.morphology",
    "safetensors.torch",
)  # fmt: skip
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


class Watch:
    """Of a pytest run: quick tests come first, and it remembers how long each took and which
    failed.
    """

    def __init__(self, seconds: Path) -> None:
        self.before: dict[str, float] = json.loads(seconds.read_text()) if seconds.exists() else {}
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Quick, middling, slow; within each in the order of the files."""
        items.sort(key=lambda item: bisect.bisect((QUICK, SLOW), self.before.get(item.nodeid, 0)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """After a test and its fixtures."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration
        if report.failed:
            self.failed.append(report.nodeid)


def run_tests(copy: Path, seconds: Path, *options: str) -> tuple[int, Watch]:
    """Run tests of a copy of the repository in this process, silently; the exit code, and what was
    seen.
    """
    multiprocessing.current_process()._config["daemon"] = False  # tests start processes
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)
    sys.path.insert(0, str(copy))
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    watch = Watch(seconds)
    return int(pytest.main([*OPTIONS, *options], plugins=[watch])), watch


def attempt(task: tuple[Mutant, Path]) -> tuple[Mutant, dict[str, Any], dict[str, float]]:
    """Run a mutant's tests on it in a copy: what to remember of it, and how long tests took."""
    mutant, seconds = task
    copy = COPIES.get()
    target = copy / mutant.path
    before, times = target.read_text(), target.stat()
    target.write_text(mutant.mutated())
    os.utime(
        target, (int(mutant.key()[:7], 16),) * 2
    )  # no compiled file of another is taken for it
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(SECONDS)
    try:
        code, watch = run_tests(copy, seconds, "-x", *mutant.tests)
    finally:
        signal.alarm(0)
        target.write_text(before)
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
        COPIES.put(copy)
    verdict = {0: "survived", 1: "noticed", 2: "noticed"}.get(code, "broken")
    line = {"name": mutant.name, "key": mutant.key(), "verdict": verdict, "by": watch.failed}
    return mutant, line, watch.seconds


def find_failing(task: tuple[list[str], Path]) -> list[str]:
    """Of these tests, those that fail in a copy without any error."""
    tests, seconds = task
    copy = COPIES.get()
    try:
        code, watch = run_tests(copy, seconds, *tests)
    finally:
        COPIES.put(copy)
    return watch.failed if code in (0, 1) else tests


def remember(seconds: Path, took: dict[str, float]) -> None:
    """Write how long tests took, whole or not at all."""
    part = seconds.with_name(f"{seconds.name}.part")
    part.write_text(json.dumps(took))
    part.replace(seconds)


def main() -> int:
    """Run what was not run yet; print the survivors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--out", type=Path, default=Path(gettempdir(), "mtl_mutants.jsonl"))
    options = parser.parse_args()
    chosen = list_mutants(options.only)
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    known = {line["key"]: line for line in map(json.loads, lines)}
    todo = [mutant for mutant in chosen if mutant.key() not in known]
    print(f"{len(chosen)} mutants, {len(todo)} to run", flush=True)
    seconds = options.out.with_name(f"{options.out.name}.seconds")
    took = Watch(seconds).before
    for module in PRELOADED:
        import_module(module)
    with TemporaryDirectory() as folder, open(options.out, "a") as file:
        for job in range(options.jobs):
            copy = Path(folder, str(job))
            shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
            COPIES.put(copy)
        with CONTEXT.Pool(options.jobs, maxtasksperchild=1) as pool:
            tasks = [(mutant, seconds) for mutant in todo]
            for mutant, line, new in pool.imap_unordered(attempt, tasks, chunksize=1):
                known[mutant.key()] = line
                print(json.dumps(line), file=file, flush=True)
                print(f"{mutant.name}: {line['verdict']}", flush=True)
                took |= new
                remember(seconds, took)
            found = [known[mutant.key()] for mutant in chosen]
            noticing = sorted({test for line in found for test in line.get("by", ())})
            wrong = pool.apply(find_failing, ((noticing, seconds),)) if noticing else []
    left = [m for m, line in zip(chosen, found) if line["verdict"] != "noticed"]
    print(f"{len(chosen) - len(left)} of {len(chosen)} noticed.")
    for mutant in left:
        verdict = known[mutant.key()]["verdict"]
        print(f"{mutant.name} {verdict}: {mutant.path}: {mutant.old!r} -> {mutant.new!r}")
    for test in wrong:
        print(f"{test} fails without any error, so what it noticed is not known.")
    return int(bool(left or wrong))


if __name__ == "__main__":
    sys.exit(main())
