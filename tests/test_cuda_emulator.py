"""The CPU emulator of CUDA kernels computes what a GPU does and refuses what breaks its rules."""

import ctypes

import pytest
import torch
from torch import Tensor

from mtlcli.ops.cuda_launch import pointer
from tests.emulator import emulate
from tests.emulator.emulate import HERE, Kernel, Refused, library, needs_compiler

pytestmark = needs_compiler
KINDS = {1: torch.bfloat16, 2: torch.float16}


def run(kernel: str, *arguments: Tensor | int, threads: int = 64, shared: int = 256, kind=1):
    """Launch a kernel of tried.cu in one block."""
    given = [pointer(a) if isinstance(a, Tensor) else ctypes.c_int(a) for a in arguments]
    Kernel(library(HERE / "tried.cu", (("VALUE", kind),)), kernel, threads, shared)(1, given)


def test_a_write_behind_the_shared_memory_is_found() -> None:
    run("overrun", 255)
    with pytest.raises(Refused, match="byte 256 of 256"):
        run("overrun", 256)
    with pytest.raises(Refused, match="byte 300 of 256"):
        run("overrun", 300)


@pytest.mark.parametrize(
    ("kernel", "said"),
    [("wait_apart", "barrier that not all"), ("meet_apart", "different operations")],
)
def test_lanes_that_wait_for_different_things_are_found(kernel: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        run(kernel)
    run("leave_early", 32)  # of a whole warp nobody waits


def test_addresses_that_are_not_aligned_are_found() -> None:
    memory = torch.zeros(64, dtype=torch.uint8)
    offset = -memory.data_ptr() % 16
    run("read_at", memory, offset)
    with pytest.raises(Refused, match="not aligned"):
        run("read_at", memory, offset + 8)


def test_threads_see_what_others_wrote_before_a_barrier() -> None:
    given, out = torch.randperm(64).int(), torch.zeros(64, dtype=torch.int32)
    run("pass_on", given, out)
    assert torch.equal(out, given.roll(-3))


def test_lanes_exchange_within_their_warp() -> None:
    given, out = torch.randint(-99, 99, (64,)).int(), torch.zeros(6, 64, dtype=torch.int32)
    run("exchange", given, out)
    warps, lane = given.view(2, 32), torch.arange(32)
    for warp, found in zip(warps, out.view(6, 2, 32).unbind(1)):
        ballot = int(((warp > 0).long() << lane).sum())
        wanted = [
            warp[(lane * 7 + 3) % 32],  # 32 divides the distance between warps
            warp[lane ^ 5],
            torch.cat((warp[:3], warp[:-3])),
            warp.min().expand(32),
            torch.tensor(ballot - (ballot >> 31 << 32)).int().expand(32),
            (warp > 90).any().int().expand(32),
        ]
        for a, b in zip(found, wanted):
            assert torch.equal(a, b.int())


def words(matrix: Tensor) -> Tensor:
    """(..., 2 k) halves as (..., k) words, the first of two in the lower half."""
    return matrix.contiguous().view(torch.int16).view(torch.int32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("deep", [16, 8])
def test_matrix_products_take_fragments_as_ptx_lays_them_out(deep: int, kind: int) -> None:
    left, right = torch.randn(16, deep).to(KINDS[kind]), torch.randn(deep, 8).to(KINDS[kind])
    start = torch.randn(16, 8)
    g, t = torch.arange(32) // 4, torch.arange(32) % 4
    rows, columns = words(left), words(right.T)  # 16 x deep / 2, 8 x deep / 2
    a = [rows[g + 8 * low, t + 4 * back] for back in range(deep // 8) for low in range(2)]
    b = [columns[g, t + 4 * back] for back in range(deep // 8)]
    places = [(g + 8 * low, 2 * t + odd) for low in range(2) for odd in range(2)]
    sums = torch.stack([start[place] for place in places], 1).contiguous()
    name = "multiply_deep" if deep == 16 else "multiply_flat"
    run(name, torch.stack(a, 1), torch.stack(b, 1), sums, threads=32, kind=kind)
    wanted = start.double() + left.double() @ right.double()
    found = torch.empty(16, 8)
    for place, column in zip(places, sums.unbind(1)):
        found[place] = column
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-5)


def test_halves_are_rounded_as_torch_rounds_them() -> None:
    given = torch.cat((torch.randn(112) * 1e3, torch.tensor([0.0, -0.0, 1e30, -torch.inf] * 4)))
    found = [torch.zeros(64, dtype=torch.int32) for _ in range(2)]
    run("round_halves", given, *found)
    for halves, kind in zip(found, KINDS.values()):
        assert torch.equal(halves.view(torch.int16), given.to(kind).view(torch.int16))


def test_the_order_of_sums_can_be_turned_and_does_not_matter_to_integers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = torch.ones(64)
    given[:4] = torch.tensor([2.0**25, 2.5, 3.5, -4.5])  # beside the first ones are lost
    found = []
    for backwards in (False, True):
        monkeypatch.setattr(emulate, "backwards", backwards)
        one, whole = torch.zeros(1), torch.zeros(1, dtype=torch.int64)
        run("add_up", given, one, whole)
        found.append(float(one))
        assert int(whole) == 2**25 + 2 + 4 - 4 + 60  # rounded to even
    assert found[0] != found[1]
