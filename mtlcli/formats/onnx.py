"""ONNX, of opset 18 unless another is asked for, run by onnxruntime or OpenVINO."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from mtlcli.errors import InputError, RunError, in_one_line
from mtlcli.formats._format import Format, Spelling
from mtlcli.runs.exported import REMEDY, Runner, open_with_onnxruntime
from mtlcli.runs.seal import BLANK, seal

OPSETS = range(18, 24)
RESPELT = 20  # from here on GridSample's `bilinear` is `linear`, which TensorRT takes for nearest
LARGEST = 2**31 - 2**20  # bytes of weights; the format's own limit is 2 GB


def write(
    network: nn.Module,
    images: Tensor,
    names: tuple[str, ...],
    facts: Mapping[str, str],
    spelling: Spelling,
    file: BinaryIO,
) -> None:
    """One file with weights inside, sealed; `facts` become its metadata_props.

    Raises:
        InputError: onnx or onnxscript is not installed, or no such opset.
        RunError: the weights are larger than 2 GB, or the exporter does not know an operator.
    """
    check_opset(spelling)
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
        program = convert(network, images, names, TRANSLATIONS, spelling)
    except RuntimeError as error:  # the exporter's own errors are of this kind
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(f"This network cannot be written as ONNX: {reason}") from error
    tidy(program.model)
    program.model.metadata_props.update({**facts, "checksum": BLANK.decode()})
    file.write(seal(program.model_proto.SerializeToString()))


def check_opset(spelling: Spelling) -> None:
    """Refuse a version that is not written here.

    Raises:
        InputError: names those that are.
    """
    opset = spelling.opset
    if opset not in OPSETS:
        raise InputError(f"--opset {opset}: {OPSETS[0]} to {OPSETS[-1]} can be written.")
    if spelling.sampling == "grid_sample" and opset >= RESPELT:
        raise InputError(
            f"--opset {opset} with --grid-sample: from opset {RESPELT} on GridSample is spelt in a "
            "way that TensorRT reads as 'nearest'; use --opset 18 or leave out --grid-sample."
        )


def convert(
    network: nn.Module,
    images: Tensor,
    names: tuple[str, ...],
    translations: Mapping[Any, Any],
    spelling: Spelling,
) -> torch.onnx.ONNXProgram:
    """The network as a graph for any number of images like these."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations inside the exporter
        converted = torch.onnx.export(
            export(network, (images,), dynamic_shapes=({0: Dim.DYNAMIC},)),
            dynamo=True,
            opset_version=spelling.opset,
            input_names=["image"],
            output_names=list(names),
            optimize=False,  # its rewriting takes time that grows with the square of the graph
            custom_translation_table=dict(translations),
            verbose=False,
        )
    assert converted is not None
    return converted


def open_openvino(path: Path, names: tuple[str, ...]) -> Runner:
    """Runs on the CPU through OpenVINO, in float32 also where the CPU is quicker in bfloat16.

    Raises:
        InputError: openvino is not installed, or lacks an operator.
    """
    try:
        import openvino
    except ImportError as error:
        raise InputError(
            f"Running OpenVINO: {error}. Install it: pip install 'mtlcli[openvino]'."
        ) from error
    core = openvino.Core()
    try:
        model = core.read_model(path.read_bytes())  # the file's name may end in anything
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:  # all its own are of this kind
        raise InputError(f"OpenVINO cannot run it: {in_one_line(error)}") from error

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        found = compiled({"image": image})
        return {name: np.array(found[name]) for name in names}

    return run


FORMAT = Format(
    title="ONNX",
    suffix=".onnx",
    write=write,
    runtime="onnxruntime",
    open=open_with_onnxruntime,
    others={"openvino": open_openvino},
)
