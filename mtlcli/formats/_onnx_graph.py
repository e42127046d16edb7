"""How attention is written into an ONNX graph, and how a graph is cleaned up."""

from typing import Any

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
        begin = op.Cast(first, to=INT64.dtype)  # OpenVINO asks for the type within the loop
        some = op.Slice(query, begin, begin + block, axis)
        read = op.MatMul(op.Softmax(op.MatMul(some, keys), axis=-1), value)
        found = op.Concat(found, read, axis=2)
        first = begin + block
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
    for node in model.graph:
        if node.op_type == "LayerNormalization":
            keep_addition_apart(node.inputs[0])


def keep_addition_apart(value: onnx_ir.Value | None) -> None:
    """Spell the addition of two values of one shape as a Sum: onnxruntime would fuse an Add with
    the normalisation after it into a kernel that takes six times as long on the CPU.
    """
    node = value.producer() if value is not None else None
    if node is not None and node.op_type == "Add":
        node.op_type = "Sum"
