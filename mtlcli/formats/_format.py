"""The record of a file format for networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from torch import Tensor, nn

from mtlcli.ops.choice import Sampling
from mtlcli.runs.exported import Open

OPSET = 18


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """How a network is written down."""

    opset: int = OPSET  # of ONNX
    half: bool = False  # whether it computes in float16 what can be
    sampling: Sampling = "gather"  # how maps are read between their pixels


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format; its name is the name of the file that defines it."""

    title: str
    suffix: str
    # network image -> tuple of maps, some images of which only the number may change later, names
    # of the maps, facts to keep, how to write them, file -> None
    write: Callable[
        [nn.Module, Tensor, tuple[str, ...], Mapping[str, str], Spelling, BinaryIO], None
    ]
    runtime: str  # name of the program that `open` runs a file with
    open: Open
    others: Mapping[str, Open] = field(default_factory=dict)  # further programs, by their names
