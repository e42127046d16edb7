"""Problems for deformable attention on which kernels are compared with plain PyTorch in float64."""

import torch
from torch import Tensor

from mtlcli.ops.choice import Operator
from mtlcli.ops.reference import deformable_attention

BORDERS = ("clamp", "zeros")
DEGENERATE = [(4, 3), (0, 5), (1, 6), (1, 1), (5, 1)]
NAMES = ("out", "value", "offsets", "logits")


class Case:
    """Random inputs; a third of the samples falls outside of the maps, none near a whole pixel.

    Args:
        shapes: of the maps.
        spread: standard deviation of the offsets in pixels.
    """

    def __init__(
        self, shapes, *, queries=12, batch=1, heads=2, points=2, channels=5, seed=0, spread=2.0
    ):
        generator = torch.Generator().manual_seed(seed)
        samples = (batch, queries, heads, len(shapes), points)
        pixels = sum(height * width for height, width in shapes)
        self.shapes = shapes
        self.value = torch.randn(batch, pixels, heads, channels, generator=generator)
        self.reference = torch.rand(queries, 2, generator=generator)
        self.offsets = spread * torch.randn(*samples, 2, generator=generator)
        self.logits = 2 * torch.randn(samples, generator=generator)
        self.grad = torch.randn(batch, queries, heads * channels, generator=generator)
        sizes = torch.tensor(shapes).flip(-1)[:, None]
        position = self.reference[:, None, None, None] * sizes - 0.5 + self.offsets
        self.offsets[(position - position.round()).abs() < 1e-3] += 0.01

    def stored(self, value: torch.dtype, offsets: torch.dtype, logits: torch.dtype) -> "Case":
        """With numbers that these types hold exactly."""
        self.value, self.grad = self.value.to(value), self.grad.to(value)
        self.offsets, self.logits = self.offsets.to(offsets), self.logits.to(logits)
        return self

    def run(self, operator: Operator, border: str = "clamp", dtype: torch.dtype | None = None):
        """The output and the gradients of value, offsets and logits."""
        leaves = [t.to(dtype or t.dtype).requires_grad_() for t in self.differentiable()]
        value, offsets, logits = leaves
        reference = self.reference.double() if dtype == torch.float64 else self.reference
        out = operator(value, self.shapes, reference, offsets, logits, border)
        return out.detach(), *torch.autograd.grad(out, leaves, self.grad.to(out.dtype))

    def exact(self, border: str = "clamp") -> tuple[Tensor, ...]:
        """The same by plain PyTorch in float64."""
        return self.run(deformable_attention, border, torch.float64)

    def differentiable(self) -> list[Tensor]:
        """Fresh copies of what gradients flow to."""
        return [t.detach().clone() for t in (self.value, self.offsets, self.logits)]


def assert_close(found, wanted, tolerance: float) -> None:
    """Relative errors, of norms; NaN is infinitely far."""
    for name, a, b in zip(NAMES, found, wanted):
        error = (a.double() - b.double()).norm() / (b.double().norm() + 1e-30)
        assert error <= tolerance, f"{name}: {error:.1e}"
