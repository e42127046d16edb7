"""PT2 (torch.export), for programs that have torch and nothing of this package."""

import warnings
from collections.abc import Mapping
from typing import BinaryIO

import torch
from torch import Tensor, nn
from torch.export import Dim, export, save

from mtlcli.errors import InputError, RunError
from mtlcli.formats._format import OPSET, Format, Spelling
from mtlcli.runs.exported import open_with_torch


class Named(nn.Module):
    """The outputs under their names."""

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.names, self.network(image)))


def write(
    network: nn.Module,
    images: Tensor,
    names: tuple[str, ...],
    facts: Mapping[str, str],
    spelling: Spelling,
    file: BinaryIO,
) -> None:
    """Write a program (B, H, W, 3) -> {name: map} for any B; `facts` become its extra files.

    Raises:
        InputError: half precision or another opset is asked for.
        RunError: this version of torch cannot trace the network.
    """
    if spelling.half or spelling.opset != OPSET:
        raise InputError("--fp16 and --opset are for --format onnx: torch casts a .pt2 itself.")
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # deprecations inside the exporter
            program = export(Named(network, names), (images,), dynamic_shapes=({0: Dim.DYNAMIC},))
            save(program, file, extra_files=dict(facts))
    except RuntimeError as error:  # the exporter's own errors are of this kind
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(f"torch {torch.__version__} cannot export this network: {reason}") from error


FORMAT = Format(
    title="PT2",
    suffix=".pt2",
    write=write,
    runtime="torch",
    open=open_with_torch,
)
