"""How the Triton kernels are cut: blocks of channels, tiles of queries, warps."""

from collections.abc import Sequence
from dataclasses import dataclass

NARROWEST = 8  # channels: 16 bytes of a half type
MOST_QUERIES = 64
VECTOR_ATOMICS = 90  # architecture from which four numbers are added at once


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What one launch of a kernel does."""

    first: int  # channel
    block: int  # channels
    tall: int  # queries of a tile, down
    wide: int  # queries of a tile, across
    warps: int


def blocks(channels: int) -> list[tuple[int, int]]:
    """(first, count) of the powers of two that hold the channels, at most two: 70 is 64 and 8."""
    largest = max(NARROWEST, 1 << max(channels, 1).bit_length() - 1)
    if largest >= channels:
        return [(0, largest)]
    rest = max(NARROWEST, 1 << (channels - largest - 1).bit_length())
    return [(0, largest), (largest, rest)]


def pitch(channels: int) -> int:
    """Numbers from one padded row to the next."""
    first, count = blocks(channels)[-1]
    return first + count


def cuts(kernel: str, channels: int, bytes_each: int, architecture: int) -> list[Cut]:
    """The launches of a kernel: `forward`, `differentiate` or `scatter`.

    Chosen so that the compiler spills no register and exchanges little through shared memory.
    bytes_each: of a number of the value; architecture: 80 for compute capability 8.0.
    """
    numbers = {"forward": 4096, "differentiate": 2048, "scatter": 2048}[kernel]
    if kernel == "scatter" and architecture < VECTOR_ATOMICS:
        numbers = 512
    made = []
    for first, block in blocks(channels):
        queries = max(1, min(MOST_QUERIES, numbers // block))
        wide = min(8, queries) if queries >= 32 else min(4, queries)
        heavy = kernel != "scatter" and bytes_each > 2 and block >= 64
        tall = queries // wide
        made.append(Cut(first=first, block=block, tall=tall, wide=wide, warps=8 if heavy else 4))
    return made


def raster(shapes: Sequence[tuple[int, int]], queries: int) -> tuple[int, int]:
    """The (height, width) that queries repeat: the largest map's, or one long line.

    It decides only which queries share a tile, never a result.
    """
    height, width = max(shapes, key=lambda shape: shape[0] * shape[1])
    if height * width and queries % (height * width) == 0:
        return height, width
    return 1, queries


def tiles(cut: Cut, height: int, width: int, queries: int) -> int:
    """How many tiles cover the queries."""
    return queries // (height * width) * -(-height // cut.tall) * -(-width // cut.wide)
