"""What runs an exported file: how large it is, how long it takes, how far it is off."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn

from mtlcli.errors import InputError
from mtlcli.formats._format import Format

TIMED = 5  # runs of one picture in turns, after one of each that is not timed


@dataclass(frozen=True, kw_only=True)
class Row:
    """One program."""

    runtime: str
    bytes: int
    seconds: float | None = None  # of one picture, median; None where it could not run
    difference: Mapping[str, float] | None = None  # task -> largest from the network
    remark: str = ""


@torch.inference_mode()
def compare_runtimes(
    network: nn.Module,
    own: Path,
    form: Format,
    path: Path,
    picture: np.ndarray,
    names: tuple[str, ...],
) -> list[Row]:
    """The network itself, then each program that runs its file.

    Args:
        network: pictures (B, H, W, 3) uint8 -> tuple of maps.
        own: its checkpoint.
        form: of the file.
        path: the file.
        picture: one, (1, H, W, 3) uint8.
        names: of the maps.
    """
    pixels = torch.from_numpy(picture)
    wanted = dict(zip(names, network(pixels)))
    rows = [Row(runtime="mtl", bytes=own.stat().st_size)]
    works: dict[str, Callable[[], object]] = {"mtl": lambda: network(pixels)}
    for runtime, start in {form.runtime: form.open, **form.others}.items():
        size = path.stat().st_size
        try:
            run = start(path, names)
        except InputError as error:  # it is not installed
            rows.append(Row(runtime=runtime, bytes=size, remark=str(error)))
            continue
        found = run(picture)
        apart = {n: float(np.abs(found[n] - wanted[n].numpy()).max()) for n in names}
        works[runtime] = partial(run, picture)
        rows.append(Row(runtime=runtime, bytes=size, difference=apart))
    seconds = time_in_turns(works)
    return [replace(row, seconds=seconds.get(row.runtime)) for row in rows]


def time_in_turns(works: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds that each takes once it has been done before, median; in turns, so that what else the
    machine does is the same for all.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(1 + TIMED):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - start)
    return {name: median(times[1:]) for name, times in taken.items()}
