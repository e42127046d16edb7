"""The record of a file format for networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from torch import Tensor, nn

Runner = Callable[[np.ndarray], dict[str, np.ndarray]]  # pictures -> {name: maps}


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format; its name is the name of the file that defines it."""

    title: str
    suffix: str
    # network image -> tuple of maps, some images of which only the number may change later, names
    # of the maps, facts to keep, file -> None
    write: Callable[[nn.Module, Tensor, tuple[str, ...], Mapping[str, str], BinaryIO], None]
    open: Callable[[Path, tuple[str, ...]], Runner]  # file, names of its outputs -> how to run it
