"""What makes fused kernels a torch operator: shapes, saving, differentiation, and what stands by.

The operator maps an `Attention` to the output (B, N, M * D) and the log-sum-exp of the logits
(B, N, M) float32; its partner maps a gradient of the output, both of these and the same attention
to the gradients of value, offsets and logits, contiguous.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.library import CustomOpDef

from mtlcli.errors import InputError
from mtlcli.ops import reference as plain
from mtlcli.ops import standby

TOLD = "Tensor value, SymInt[] sizes, Tensor reference, Tensor offsets, Tensor logits, bool clamp"
ATTEND = f"({TOLD}) -> (Tensor, Tensor)"
DIFFERENTIATE = f"(Tensor grad_out, Tensor out, Tensor lse, {TOLD}) -> (Tensor, Tensor, Tensor)"
STORED = (torch.float32, torch.bfloat16, torch.float16)
Gradients = tuple[Tensor, Tensor, Tensor]  # of value, offsets and logits


@dataclass(frozen=True)
class Attention:
    """One call, see `mtlcli.ops.deformable_attention`; the fields are the operators' arguments.

    Kernels get offsets and logits of which only what belongs to one query need be contiguous.
    """

    value: Tensor  # (B, S, M, D)
    sizes: Sequence[int]  # height and width of each map
    reference: Tensor  # (N, 2)
    offsets: Tensor  # (B, N, M, L, P, 2)
    logits: Tensor  # (B, N, M, L, P)
    clamp: bool  # the border, else zeros

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Of the maps."""
        return list(zip(self.sizes[::2], self.sizes[1::2]))

    @property
    def border(self) -> str:
        """By its name."""
        return "clamp" if self.clamp else "zeros"

    def told(self) -> tuple[Any, ...]:
        """The arguments."""
        return tuple(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """Fused kernels for a kind of device; both functions fill the tensors that they are given."""

    name: str
    forward: Callable[[Attention, Tensor, Tensor], None]  # attention, out, lse
    backward: Callable[[Attention, Tensor, Tensor, Tensor, Gradients], None]
    """attention, grad_out, out, lse, gradients"""
    following: Callable[[], "Kernels | None"] = lambda: None  # stand by before plain PyTorch does

    def attend(self, *told: Any) -> tuple[Tensor, Tensor]:
        """What the operator computes."""
        attention, (out, lse) = _whole(Attention(*told)), empty_results(*told)
        if _is_empty(attention, out):
            return out.zero_(), lse.zero_()

        def fused() -> tuple[Tensor, Tensor]:
            self.forward(attention, out, lse)
            return out, lse

        def instead() -> tuple[Tensor, Tensor]:
            others = self.following()
            return others.attend(*attention.told()) if others else _attend_plainly(attention)

        return standby.attempt(self.name, out.device, fused, instead)

    def differentiate(self, grad_out: Tensor, out: Tensor, lse: Tensor, *told: Any) -> Gradients:
        """What its partner computes."""
        attention, grads = _whole(Attention(*told)), empty_gradients(grad_out, out, lse, *told)
        if _is_empty(attention, out):
            return tuple(grad.zero_() for grad in grads)  # type: ignore[return-value]

        def fused() -> Gradients:
            self.backward(attention, grad_out, out, lse, grads)
            return grads

        def instead() -> Gradients:
            others = self.following()
            if others:
                return others.differentiate(grad_out, out, lse, *attention.told())
            return _differentiate_plainly(attention, grad_out)

        return standby.attempt(self.name, out.device, fused, instead)


def _whole(attention: Attention) -> Attention:
    """With contiguous points; a slice of a wider projection stays what it is."""
    offsets, logits = (
        tensor if tensor[:1, :1].is_contiguous() else tensor.contiguous()
        for tensor in (attention.offsets.detach(), attention.logits.detach())
    )
    reference = attention.reference.detach().contiguous()
    return replace(attention, reference=reference, offsets=offsets, logits=logits)


def _is_empty(attention: Attention, out: Tensor) -> bool:
    return not (out.numel() and attention.logits.numel() and attention.value.numel())


def _attend_plainly(attention: Attention) -> tuple[Tensor, Tensor]:
    value, _, reference, offsets, logits, _ = attention.told()
    places = (attention.shapes, reference, offsets, logits, attention.border)
    with torch.no_grad():
        return plain.deformable_attention(value, *places), logits.float().flatten(3).logsumexp(-1)


def _differentiate_plainly(attention: Attention, grad_out: Tensor) -> Gradients:
    value, offsets, logits = attention.value, attention.offsets, attention.logits
    rows = value.to(torch.promote_types(value.dtype, torch.float32))
    points = attention.reference.to(torch.promote_types(offsets.dtype, torch.float32))
    places = (points, tuple(attention.shapes), attention.border)
    grads = plain.differentiate(rows, offsets, logits, *places, grad_out.to(rows.dtype))
    grad_value, grad_offsets, grad_logits = (grad.contiguous() for grad in grads)
    return grad_value.to(value.dtype), grad_offsets, grad_logits


def make_operator(kernels: Kernels, name: str, device: str | None = None) -> CustomOpDef:
    """The kernels as the torch operator `mtl::name`, differentiable once, for a type of device.

    The reference points have no gradient; a second derivative raises RuntimeError.
    """
    attend = torch.library.custom_op(
        f"mtl::{name}", kernels.attend, mutates_args=(), device_types=device, schema=ATTEND
    )
    differentiate = torch.library.custom_op(
        f"mtl::{name}_backward",
        kernels.differentiate,
        mutates_args=(),
        device_types=device,
        schema=DIFFERENTIATE,
    )

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
    return attend


def empty_results(*told: Any) -> tuple[Tensor, Tensor]:
    """Room for what the operator returns."""
    attention = Attention(*told)
    batch, queries, heads = attention.logits.shape[:3]
    out = attention.value.new_empty(batch, queries, heads * attention.value.shape[3])
    return out, attention.value.new_empty(batch, queries, heads, dtype=torch.float32)


def empty_gradients(grad_out: Tensor, out: Tensor, lse: Tensor, *told: Any) -> Gradients:
    """Room for what its partner returns."""
    attention, layout = Attention(*told), torch.contiguous_format
    grad_value = torch.empty_like(attention.value, memory_format=layout)
    grad_offsets = torch.empty_like(attention.offsets, memory_format=layout)
    return grad_value, grad_offsets, torch.empty_like(attention.logits, memory_format=layout)


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
        told = (value, (), reference, offsets, logits, True)
        grad_value, grad_offsets, grad_logits = empty_gradients(grad_out, out, lse, *told)
        return grad_value, None, grad_offsets, grad_logits


def require(name: str, attention: Attention) -> None:
    """Check that all tensors lie on one device, as types that kernels read or convert.

    Raises:
        InputError: they do not.
    """
    device = attention.value.device
    for key in ("value", "reference", "offsets", "logits"):
        tensor = getattr(attention, key)
        if tensor.device != device:
            raise InputError(f"{key} is on {tensor.device}, but value on {device}.")
        if tensor.dtype not in STORED and key != "reference":
            raise InputError(
                f"{key} is {tensor.dtype}; the {name} operator takes float32, float16 or bfloat16 "
                "(the `reference` operator takes float64)."
            )
