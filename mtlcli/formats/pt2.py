"""PT2 (torch.export), for programs that have torch and nothing of this package."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, export, load, save

from mtlcli.errors import RunError
from mtlcli.formats._format import Format, Runner


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
    file: BinaryIO,
) -> None:
    """Write a program (B, H, W, 3) -> {name: map} for any B; `facts` become its extra files.

    Raises:
        RunError: this version of torch cannot trace the network.
    """
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # deprecations inside the exporter
            program = export(Named(network, names), (images,), dynamic_shapes=({0: Dim.DYNAMIC},))
            save(program, file, extra_files=dict(facts))
    except RuntimeError as error:  # the exporter's own errors are of this kind
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(f"torch {torch.__version__} cannot export this network: {reason}") from error


def open_file(path: Path, names: tuple[str, ...]) -> Runner:
    """Open a file to run it on the CPU."""
    with warnings.catch_warnings(), path.open("rb") as file:  # by name it must end in .pt2
        warnings.simplefilter("ignore")  # deprecations inside
        network = load(file).module()  # type: ignore[arg-type]

    @torch.inference_mode()
    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        return {n: maps.numpy() for n, maps in network(torch.from_numpy(image)).items()}

    return run


FORMAT = Format(title="PT2", suffix=".pt2", write=write, open=open_file)
