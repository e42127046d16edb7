"""ONNX (opset 20, whose GridSample reads what deformable attention samples)."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from mtlcli.errors import InputError, RunError
from mtlcli.formats._format import Format, Runner

OPSET = 20
LARGEST = 2**31 - 2**20  # bytes of weights; the format's own limit is 2 GB
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
        RunError: the weights are larger than 2 GB, or the exporter does not know an operator.
    """
    try:
        from mtlcli.formats._onnx_graph import TRANSLATIONS, tidy
    except ImportError as error:
        raise InputError(f"Writing ONNX: {error}. {REMEDY}") from error
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    if weights > LARGEST:
        raise RunError(
            f"An ONNX file holds at most 2 GB, these weights are {weights / 1e9:.1f} GB; "
            "use --format pt2."
        )
    try:
        program = convert(network, images, names, TRANSLATIONS)
    except RuntimeError as error:  # the exporter's own errors are of this kind
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(f"This network cannot be written as ONNX: {reason}") from error
    tidy(program.model)
    program.model.metadata_props.update(facts)
    file.write(program.model_proto.SerializeToString())


def convert(
    network: nn.Module, images: Tensor, names: tuple[str, ...], translations: Mapping[Any, Any]
) -> torch.onnx.ONNXProgram:
    """The network as a graph for any number of images like these."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations inside the exporter
        converted = torch.onnx.export(
            export(network, (images,), dynamic_shapes=({0: Dim.DYNAMIC},)),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=list(names),
            optimize=False,  # its rewriting takes time that grows with the square of the graph
            custom_translation_table=dict(translations),
            verbose=False,
        )
    assert converted is not None
    return converted


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
