"""Jobs on several processes: all are done, the first error stops them, nobody is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import pytest

from mtlcli.data.parallel import in_order
from mtlcli.errors import InputError, RunError


class Touch:
    """A job that leaves a file; some fail in their own way."""

    def __init__(self, folder: Path, fails: int = -1, how: str = ""):
        self.folder, self.fails, self.how = folder, fails, how

    def __call__(self, job: int) -> int:
        if job == self.fails and self.how == "input":
            raise InputError(f"job {job} is bad")
        if job == self.fails and self.how == "disk":
            raise OSError(28, "No space left on device")
        if job == self.fails and self.how == "bug":
            raise ZeroDivisionError("by zero")
        if job == self.fails and self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        (self.folder / str(job)).touch()
        return 2 * job


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_jobs(tmp_path: Path, workers: int) -> None:
    assert list(in_order(Touch(tmp_path), range(5, 45), workers)) == [2 * n for n in range(5, 45)]
    assert sorted(int(p.name) for p in tmp_path.iterdir()) == list(range(5, 45))


def test_jobs_wait_until_results_are_taken(tmp_path: Path) -> None:
    results = in_order(Touch(tmp_path), range(1000), 2)
    next(results)
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) < 20
    results.close()


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ("input", InputError, "job 7 is bad"),
        ("disk", OSError, "No space left"),
        ("bug", RunError, "ZeroDivisionError: by zero"),
        ("killed", RunError, r"killed \(out of memory\?\)"),
    ],
)
def test_a_failure_reaches_the_caller(
    tmp_path: Path, how: str, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        list(in_order(Touch(tmp_path, 7, how), range(30), 2))


def test_a_worker_that_is_gone_before_the_next_job_is_begun_is_told_as_killed(
    tmp_path: Path,
) -> None:
    results = in_order(Touch(tmp_path, 7, "killed"), range(10_000), 2)
    with pytest.raises(RunError, match="killed"):
        deque(time.sleep(0.3) for _ in results)  # the pool breaks while nobody asks it


SLEEPER = """
import sys, time
from pathlib import Path
from mtlcli.data.parallel import in_order

class Sleep:
    def __call__(self, job):
        import os
        (Path(sys.argv[1]) / str(os.getpid())).touch()
        time.sleep(0.1)

if __name__ == "__main__":
    list(in_order(Sleep(), range(10_000), 2))
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_parent(tmp_path: Path, way: signal.Signals) -> None:
    script, folder = tmp_path / "sleeper.py", tmp_path / "pids"
    script.write_text(SLEEPER)
    folder.mkdir()
    command = [sys.executable, str(script), str(folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path) as parent:
        deadline = time.monotonic() + 30
        while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        workers = [int(p.name) for p in folder.iterdir()]
        assert len(workers) == 2
        parent.send_signal(way)
    deadline = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))
