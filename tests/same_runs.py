"""Whether two runs are the same, bit for bit."""

from pathlib import Path
from typing import Any

import torch

from mtlcli.runs.folder import read_log


def equal(a: Any, b: Any) -> bool:
    """Whether two contents of checkpoints hold the same, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def log_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, without how fast it went."""
    return [{k: v for k, v in line.items() if k != "speed"} for line in read_log(folder)]
