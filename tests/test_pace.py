"""Frames pass through unchanged while the number of threads is tried, and it is put back."""

import pytest
import torch

from mtlcli.visualizing import pace


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("frames", [0, 1, pace.SETTLING, 40])
def test_every_frame_passes_once_and_in_order(frames: int, four_threads: None) -> None:
    assert list(pace.paced(iter(range(frames)))) == list(range(frames))
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("slow", "kept"), [(4, 3), (3, 4)])
def test_the_quicker_number_of_threads_stays(
    monkeypatch: pytest.MonkeyPatch, four_threads: None, slow: int, kept: int
) -> None:
    now = 0.0
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now)
    used = []
    for _ in pace.paced(iter(range(40))):
        used.append(torch.get_num_threads())
        now += 2.0 if used[-1] == slow else 1.0
    assert set(used[2 * (pace.SETTLING + pace.TRIED) :]) == {kept}
    assert {3, 4} == set(used)


def test_threads_are_put_back_after_an_interrupt(four_threads: None) -> None:
    shots = pace.paced(iter(range(40)))
    next(shots)
    assert torch.get_num_threads() == 3
    shots.close()
    assert torch.get_num_threads() == 4
