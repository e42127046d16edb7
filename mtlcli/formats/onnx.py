"""ONNX (opset 20, whose GridSample reads what deformable attention samples)."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from mtlcli.errors import InputError, RunError
from mtlcli.formats._format import Format, Runner

OPSET = 20
REMEDY = "Install what it needs: pip install 'mtlcli[onnx]'."


def write(
    network: nn.Module,
    images: Tensor,
    names: tuple[str, ...],
    facts: Mapping[str, str],
    file: BinaryIO,
) -> None:
    """One file with weights inside; `facts` become its metadata_props.

    Raises:
        InputError: onnx or onnxscript is not installed.
        RunError: the file would be larger than 2 GB.
    """
    try:
        from mtlcli.formats._onnx_graph import TRANSLATIONS, tidy
    except ImportError as error:
        raise InputError(f"Writing ONNX: {error}. {REMEDY}") from error
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations inside the exporter
        converted = torch.onnx.export(
            export(network, (images,), dynamic_shapes=({0: Dim.DYNAMIC},)),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=list(names),
            optimize=False,  # its rewriting takes time that grows with the square of the graph
            custom_translation_table=TRANSLATIONS,
            verbose=False,
        )
    assert converted is not None
    tidy(converted.model)
    converted.model.metadata_props.update(facts)
    try:
        file.write(converted.model_proto.SerializeToString())
    except ValueError as error:
        raise RunError(f"An ONNX file holds at most 2 GB: {error}.") from error


def open_file(path: Path, names: tuple[str, ...]) -> Runner:
    """Runs on the CPU through onnxruntime.

    Raises:
        InputError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"Running ONNX: {error}. {REMEDY}") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(list(names), {"image": image})))

    return run


FORMAT = Format(title="ONNX", suffix=".onnx", write=write, open=open_file)
