"""What makes a fused operator and its gradients known to torch: shapes, saving, differentiation.

The operator maps (value, sizes, reference, offsets, logits, clamp) to the output (B, N, M * D) and
the log-sum-exp of the logits (B, N, M) float32; its partner maps a gradient of the output, both of
these and the same arguments to the gradients of value, offsets and logits, contiguous.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.library import CustomOpDef


def empty_results(
    value: Tensor,
    sizes: Sequence[int],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    clamp: bool,
) -> tuple[Tensor, Tensor]:
    """Room for what the operator returns."""
    batch, queries, heads = logits.shape[:3]
    out = value.new_empty(batch, queries, heads * value.shape[3])
    return out, value.new_empty(batch, queries, heads, dtype=torch.float32)


def empty_gradients(
    grad_out: Tensor,
    out: Tensor,
    lse: Tensor,
    value: Tensor,
    sizes: Sequence[int],
    reference: Tensor,
    offsets: Tensor,
    logits: Tensor,
    clamp: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Room for what its partner returns."""
    layout = torch.contiguous_format
    grad_value = torch.empty_like(value, memory_format=layout)
    grad_offsets = torch.empty_like(offsets, memory_format=layout)
    return grad_value, grad_offsets, torch.empty_like(logits, memory_format=layout)


def make_differentiable(attend: CustomOpDef, differentiate: CustomOpDef) -> None:
    """Let autograd call `differentiate` for `attend`, once: second derivatives raise RuntimeError.

    The reference points have no gradient.
    """

    def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        value, ctx.sizes, reference, offsets, logits, ctx.clamp = inputs
        ctx.save_for_backward(*output, value, reference, offsets, logits)

    def backward(ctx: Any, grad_out: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        out, lse, value, reference, offsets, logits = ctx.saved_tensors
        grad_value, grad_offsets, grad_logits = differentiate(
            grad_out, out, lse, value, ctx.sizes, reference, offsets, logits, ctx.clamp
        )
        return grad_value, None, None, grad_offsets, grad_logits, None

    def refuse(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError(
            "This deformable attention can be differentiated once only; no second derivatives."
        )

    attend.register_fake(empty_results)
    attend.register_autograd(backward, setup_context=save)
    differentiate.register_fake(empty_gradients)
    differentiate.register_autograd(refuse)


class ShapesAlone(torch.autograd.Function):
    """On the meta device: the shapes that the operator returns, and what it keeps for gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, reference: Tensor, offsets: Tensor, logits: Tensor) -> Any:
        out, lse = empty_results(value, (), reference, offsets, logits, True)
        ctx.save_for_backward(out, lse, value, reference, offsets, logits)
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        out, lse, value, reference, offsets, logits = ctx.saved_tensors
        rows, steps, scores = empty_gradients(
            grad_out, out, lse, value, (), reference, offsets, logits, True
        )
        return rows, None, steps, scores


def queries_whole(tensor: Tensor) -> Tensor:
    """The same, detached, and copied only where what belongs to one query is not contiguous: a
    slice of a wider projection stays what it is.
    """
    tensor = tensor.detach()
    return tensor if tensor[:1, :1].is_contiguous() else tensor.contiguous()
