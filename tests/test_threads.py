"""Threads of the command: as many as a container may run, and asleep while they wait."""

import os
import subprocess
import sys

import pytest

from mtlcli.home import COUNTS, choose_environment, cpu_quota, whole_cores

V1 = "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n"


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3.0),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 50000", "a/cpu.max": "300000 100000"}, 3.0),
        ("0::/host/only\n", {"cpu.max": "50000 100000"}, 0.5),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        (V1, {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.5),
        (
            V1,
            {
                "cpu/docker/a/cpu.cfs_quota_us": "100000",
                "cpu/docker/a/cpu.cfs_period_us": "100000",
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
            },
            1.0,
        ),
        ("0::/\n", {"cpu.max": "unreadable"}, None),
        ("0::/\n", {"cpu.max": "100000 0"}, None),
        ("", {}, None),
    ],
)
def test_the_quota_is_the_least_of_the_groups(
    membership: str, files: dict[str, str], quota: float | None
) -> None:
    assert cpu_quota(membership, files.get) == quota


@pytest.mark.parametrize(
    ("cores", "quota", "threads"), [(8, None, 8), (8, 2.5, 2), (8, 0.3, 1), (2, 16.0, 2)]
)
def test_threads_never_exceed_the_quota(cores: int, quota: float | None, threads: int) -> None:
    assert whole_cores(cores, quota) == threads
    limited = quota is not None and quota < cores
    counts = {v for n, v in choose_environment({}, cores, quota).items() if n in COUNTS}
    assert counts == ({str(threads)} if limited else set())


def test_what_the_user_set_stays() -> None:
    given = {"OMP_WAIT_POLICY": "active", "OMP_NUM_THREADS": "7"}
    assert choose_environment(given, 8, 2.0) == {}
    assert choose_environment({"OMP_WAIT_POLICY": "active"}, 2, None) == {}
    assert choose_environment({"GOMP_SPINCOUNT": "5"}, 2, None) == {"OMP_WAIT_POLICY": "passive"}
    assert set(choose_environment({}, 2, None)) == {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    assert choose_environment({"NUMBA_NUM_THREADS": "3"}, 8, 2.0).get("OMP_NUM_THREADS") == "2"
    assert "NUMBA_NUM_THREADS" not in choose_environment({"NUMBA_NUM_THREADS": "3"}, 8, 2.0)


COMMAND = """
import os, sys
import mtlcli, mtlcli.cli
assert "OMP_WAIT_POLICY" not in os.environ, "set by an import"
mtlcli.cli.app = lambda **_: None
mtlcli.cli.main()
assert os.environ["OMP_WAIT_POLICY"] == "passive"
assert "torch" not in sys.modules, "torch has read it already"
"""


def test_the_command_sets_it_before_torch_is_imported_and_the_library_never() -> None:
    bare = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    ran = subprocess.run([sys.executable, "-c", COMMAND], env=bare, capture_output=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
