"""What was freed goes back to the system."""

import os
import platform
from pathlib import Path

import pytest
import torch

from mtlcli.ops.heap import trim
from mtlcli.scoring import measure


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other heaps are left to themselves")
def test_holes_between_what_is_kept_go_back() -> None:
    blocks = [torch.ones(16_000) for _ in range(4000)]  # 256 MB in pieces of 64 kB
    kept, full = blocks[::10], resident()
    del blocks
    trim()
    assert full - resident() > 150e6
    assert all(one[0] == 1 for one in kept)


def test_an_evaluation_gives_memory_back_as_it_goes(base, mtl, monkeypatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(measure, "TRIMMED", 2)
    monkeypatch.setattr(measure, "trim", lambda: calls.append(1))
    done = mtl("eval", "base", "--device", "cpu", "--quiet", "--limit", 3, "--workers", 0)
    assert done.code == 0, done.err
    assert len(calls) == 1
