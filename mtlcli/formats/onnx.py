"""ONNX (opset 20, whose GridSample reads what deformable attention samples)."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx_ir
import torch
from onnx_ir.passes import Sequential
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
)
from onnxscript import FLOAT, INT64, optimizer, script
from onnxscript import opset18 as op  # what the exporter writes before it converts to `OPSET`
from torch import Tensor, nn
from torch.export import Dim, export

from mtlcli.errors import InputError, RunError
from mtlcli.formats._format import Format, Runner

BLOCK = 256
"""Queries whose scores exist at a time: the matrix of all of them takes many gigabytes."""


@script(default_opset=op)
def attention_in_blocks(
    query: FLOAT, key: FLOAT, value: FLOAT, block: INT64, scale: FLOAT
) -> FLOAT:
    """softmax(query key^T) value, (B, M, N, D), for `block` of the N queries after the other."""
    keys = op.Transpose(key * scale, perm=[0, 1, 3, 2])
    axis = op.Constant(value_ints=[2])
    zero = op.Constant(value_ints=[0])
    count = op.Shape(query, start=2, end=3)
    blocks = op.Squeeze((count + block - 1) / block)
    found = op.Slice(query, zero, zero, axis)
    first = op.Constant(value_ints=[0])
    for _ in range(blocks):
        some = op.Slice(query, first, first + block, axis)
        read = op.MatMul(op.Softmax(op.MatMul(some, keys), axis=-1), value)
        found = op.Concat(found, read, axis=2)
        first = first + block
    return found


def scaled_dot_product_attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
    """Torch's operator as networks here use it: without mask, dropout or scale of their own."""
    block = op.Constant(value_ints=[BLOCK])
    scale = op.Constant(value_float=float(query.shape[-1]) ** -0.5)
    return attention_in_blocks(query, key, value, block, scale)


TRANSLATIONS: dict = {
    torch.ops.aten.scaled_dot_product_attention.default: scaled_dot_product_attention
}


def tidy(model: onnx_ir.Model) -> None:
    """Computes what is constant, shares what is equal and removes what is unused."""
    optimizer.fold_constants(model)
    Sequential(
        RemoveUnusedNodesPass(),
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        CommonSubexpressionEliminationPass(),
        DeduplicateInitializersPass(),
        RemoveUnusedNodesPass(),
    )(model)


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
        from mtlcli.formats.onnx import TRANSLATIONS, tidy
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
