"""TorchScript, for programs in C++ or Python that have torch and nothing of this package."""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

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
    """A module (B, H, W, 3) -> {name: map}; `facts` become its extra files.

    Raises:
        RunError: this version of torch or Python cannot write TorchScript.
    """
    content = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch.jit is deprecated, yet the only writer
            named = Named(network, names)
            traced = torch.jit.trace(named, images, strict=False, check_trace=False)
            torch.jit.save(traced, content, _extra_files=dict(facts))
    except (AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"torch {torch.__version__} cannot write TorchScript here ({reason}); "
            "use --format onnx."
        ) from error
    file.write(content.getbuffer())


def open_file(path: Path, names: tuple[str, ...]) -> Runner:
    """Runs on the CPU."""
    network = load_file(path, {})

    @torch.inference_mode()
    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        return {n: maps.numpy() for n, maps in network(torch.from_numpy(image)).items()}

    return run


def load_file(path: Path, facts: dict[str, str]) -> nn.Module:
    """The module in a file; the values of `facts` become what was written under these names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        return torch.jit.load(str(path), map_location="cpu", _extra_files=facts)


FORMAT = Format(title="TorchScript", suffix=".torchscript", write=write, open=open_file)
