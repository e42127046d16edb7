"""The machine the program finds itself on: its folders, $MTL_HOME, and the cores it may use.

torch computes with OpenMP (libgomp on Linux, LLVM's elsewhere), whose threads by default spin for
milliseconds at every barrier. Where other programs want the same cores, that costs far more than it
saves. Both runtimes read OMP_WAIT_POLICY, once, when they are loaded: so it must be set before
torch is imported. GOMP_SPINCOUNT says to libgomp how often a thread looks before it sleeps: without
any look every short wait costs a sleep (a step of the demo takes half as long again on two cores).
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

GROUPS = Path("/sys/fs/cgroup")
SPINS = "10000"  # before a thread sleeps: a short wait costs no more than in a thread that spins
COUNTS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")

Read = Callable[[str], str | None]  # a file's path below GROUPS -> its content, if there is one


def home() -> Path:
    """The folder that holds datasets/ and weights/: $MTL_HOME, or the working directory."""
    return Path(os.environ.get("MTL_HOME") or ".")


def datasets_dir() -> Path:
    """Where prepared datasets lie."""
    return home() / "datasets"


def weights_dir() -> Path:
    """Where backbone weights and runs lie."""
    return home() / "weights"


def set_environment() -> None:
    """Give this process and those it starts the variables of `choose_environment`, before torch,
    numba or OpenCV is imported.
    """
    os.environ.update(choose_environment(os.environ, own_cores(), quota()))


def choose_environment(
    given: Mapping[str, str], cores: int, allowed: float | None
) -> dict[str, str]:
    """Variables to add to an environment, in which what the user set stays as it is.

    Args:
        given: the environment.
        cores: that the process may run on.
        allowed: processor time per time that it may use, as a container's quota; None: any.
    """
    found = {}
    if "OMP_WAIT_POLICY" not in given:  # which the count of spins would overrule
        found = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": SPINS}
    if allowed is not None and allowed < cores and "OMP_NUM_THREADS" not in given:
        found |= dict.fromkeys(COUNTS, str(whole_cores(cores, allowed)))
    return {name: value for name, value in found.items() if name not in given}


def available_cores() -> int:
    """As many as threads of this process can really run on at once."""
    return whole_cores(own_cores(), quota())


def whole_cores(cores: int, allowed: float | None) -> int:
    """Of the cores, those that a quota lets be used all the time; at least one."""
    return cores if allowed is None else max(1, min(cores, int(allowed)))


def own_cores() -> int:
    """Cores that the system lets this process run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota() -> float | None:
    """The quota of this process, see `cpu_quota`; None where there are no control groups."""

    def read(name: str) -> str | None:
        try:
            return (GROUPS / name).read_text()
        except (OSError, ValueError):
            return None

    try:
        membership = Path("/proc/self/cgroup").read_text()
    except (OSError, ValueError):
        return None
    return cpu_quota(membership, read)


def cpu_quota(membership: str, read: Read) -> float | None:
    """Seconds of processor time per second that control groups allow; None: no limit.

    The least of a group and of those around it counts. In a container the path of the own group
    may be the host's, which is not there: what is mounted as the outermost group is then its own.

    Args:
        membership: content of /proc/self/cgroup, lines `number:controllers:/path`.
        read: gives the content of cpu.max (version 2), cpu.cfs_quota_us and cpu.cfs_period_us
            (version 1) of a group.
    """
    found = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        own = PurePosixPath(path.lstrip("/"))
        for group in (own, *own.parents):
            if not controllers:
                found.append(share(read(str(group / "cpu.max"))))
            elif "cpu" in controllers.split(","):
                folder = "cpu" / group
                times = (read(str(folder / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
                found.append(share(" ".join(text or "" for text in times)))
    limits = [limit for limit in found if limit is not None]
    return min(limits) if limits else None


def share(text: str | None) -> float | None:
    """`QUOTA PERIOD` in microseconds as a share; None without a quota, which is `max` or -1."""
    try:
        allowed, period = map(int, (text or "").split())
    except ValueError:
        return None
    return allowed / period if allowed > 0 and period > 0 else None
