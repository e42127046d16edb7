"""Things worked on side by side come out in order, and torch's threads are shared, then given
back."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from mtlcli.drawing.stream import work_abreast


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_all_come_out_in_order_whoever_is_quicker(workers: int, count: int) -> None:
    def work(thing: int) -> int:
        time.sleep(0.01 if thing % 3 == 0 else 0)
        return thing**2

    assert list(work_abreast(work, iter(range(count)), workers)) == [
        (i, i**2) for i in range(count)
    ]


@pytest.mark.parametrize(("workers", "share"), [(1, 4), (2, 2), (3, 1), (8, 1)])
def test_threads_are_shared_and_given_back(workers: int, share: int) -> None:
    found = work_abreast(lambda _: torch.get_num_threads(), iter(range(12)), workers)
    assert {threads for _, threads in found} == {share}
    assert torch.get_num_threads() == 4
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [4]


def test_two_at_a_time_meet_and_no_more_are_begun() -> None:
    meeting = threading.Barrier(2, timeout=20)
    taken = []

    def things() -> Iterator[int]:
        for i in range(6):
            taken.append(i)
            yield i

    def work(thing: int) -> int:
        meeting.wait()
        return thing

    results = work_abreast(work, things(), 2)
    assert next(results) == (0, 0)
    assert len(taken) <= 3
    assert [thing for thing, _ in results] == [1, 2, 3, 4, 5]


def test_an_error_comes_out_in_its_place_and_ends_the_threads() -> None:
    def work(thing: int) -> int:
        if thing == 3:
            raise ValueError("three")
        return thing

    before = threading.active_count()
    seen: list[int] = []
    with pytest.raises(ValueError, match="three"):
        seen.extend(thing for thing, _ in work_abreast(work, iter(range(10)), 2))
    assert seen == [0, 1, 2]
    assert threading.active_count() == before
    assert torch.get_num_threads() == 4


def test_an_abandoned_one_ends_its_threads() -> None:
    before = threading.active_count()
    results = work_abreast(lambda thing: thing, iter(range(10**9)), 2)
    next(results)
    results.close()
    assert threading.active_count() == before
    assert torch.get_num_threads() == 4
