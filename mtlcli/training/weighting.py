"""How the losses of several tasks become the one that is minimised.

Each is a module {task: loss} -> scalar that starts from the paper's fixed weights; what it learns
or remembers is saved with the run.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtlcli.ops.processes import average, world

Losses = Mapping[str, Tensor]


class Fixed(nn.Module):
    """The paper's: a constant weight for each task (DeMT, builder.py)."""

    fixed: Tensor

    def __init__(self, weights: Mapping[str, float], shared: Sequence[Tensor], epoch: int) -> None:
        """
        Args:
            weights: task -> weight.
            shared: parameters of the layers that all tasks use, for weightings that look at
                gradients.
            epoch: iterations in which every sample is seen once, for `DynamicAverage`.
        """
        super().__init__()
        self.tasks = tuple(weights)
        self.register_buffer("fixed", torch.tensor(list(weights.values())), persistent=False)

    def weighted(self, losses: Losses) -> Tensor:
        """(T,) losses of the whole batch times the fixed weights, with the gradient of this
        process's share of it.
        """
        own = torch.stack([losses[name] for name in self.tasks]) * self.fixed
        if world() == 1:
            return own
        return own + (average(own).to(own.dtype) - own).detach()

    def forward(self, losses: Losses) -> Tensor:
        return self.weighted(losses).sum()


class Uncertainty(Fixed):
    """Learnt homoscedastic uncertainty: sum of exp(-s) L + s (Kendall et al., arXiv 1705.07115)."""

    def __init__(self, weights: Mapping[str, float], shared: Sequence[Tensor], epoch: int) -> None:
        super().__init__(weights, shared, epoch)
        self.log_variance = nn.Parameter(torch.zeros(len(self.tasks)))

    def forward(self, losses: Losses) -> Tensor:
        return (self.weighted(losses) * (-self.log_variance).exp() + self.log_variance).sum()


class Geometric(Fixed):
    """Geometric mean of the losses (Chennupati et al., arXiv 1904.08492): scales do not matter."""

    def forward(self, losses: Losses) -> Tensor:
        return self.weighted(losses).clamp(min=1e-8).log().mean().exp()


class DynamicAverage(Fixed):
    """Tasks that learn slowly weigh more: softmax of L(e - 1) / L(e - 2) over epochs e, temperature
    2, times the number of tasks (Liu et al., arXiv 1803.10704, equation 7).
    """

    TEMPERATURE = 2.0
    seen: Tensor
    running: Tensor
    before: Tensor

    def __init__(self, weights: Mapping[str, float], shared: Sequence[Tensor], epoch: int) -> None:
        super().__init__(weights, shared, epoch)
        self.epoch, count = epoch, len(self.tasks)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("running", torch.zeros(count))  # sum over this epoch
        self.register_buffer("before", torch.ones(2, count))  # means of epochs e - 2 and e - 1

    def forward(self, losses: Losses) -> Tensor:
        values = self.weighted(losses)
        ratio = torch.ones_like(values)
        if self.seen >= 2 * self.epoch:
            ratio = self.before[1] / self.before[0].clamp(min=1e-8)
        share = torch.softmax(ratio / self.TEMPERATURE, 0) * len(self.tasks)
        total = (share * values).sum()
        if torch.is_grad_enabled():
            self._remember(values.detach())
        return total

    def _remember(self, values: Tensor) -> None:
        self.seen += 1
        self.running += values
        if self.seen % self.epoch == 0:
            self.before.copy_(torch.stack((self.before[1], self.running / self.epoch)))
            self.running.zero_()


class GradNorm(Fixed):
    """Weights are learnt so that every task's gradient at a shared layer has a norm according to
    how slowly it learns (Chen et al., arXiv 1711.02257, equations 1 and 2, alpha 1.5).
    """

    ALPHA, RATE = 1.5, 0.025
    weight: Tensor
    first: Tensor

    def __init__(self, weights: Mapping[str, float], shared: Sequence[Tensor], epoch: int) -> None:
        super().__init__(weights, shared, epoch)
        self.shared = [last_kernel(shared)]  # in a list: not a parameter of this module
        self.register_buffer("weight", torch.ones(len(self.tasks)))
        self.register_buffer("first", torch.zeros(len(self.tasks)))

    def forward(self, losses: Losses) -> Tensor:
        values = self.weighted(losses)
        total = (self.weight.clone() * values).sum()
        if torch.is_grad_enabled():
            self._adapt(values)
        return total

    def _adapt(self, values: Tensor) -> None:
        """One step of the weights on sum |w G - mean(w G) r^alpha|, whose sign is its slope."""
        norms = torch.stack([self._norm(value) for value in values]).to(values.dtype)
        now = values.detach()
        if not self.first.any():
            self.first.copy_(now)
        speed = now / self.first.clamp(min=1e-8)
        wanted = (self.weight * norms).mean() * (speed / speed.mean()) ** self.ALPHA
        slope = torch.sign(self.weight * norms - wanted) * norms / norms.mean().clamp(min=1e-8)
        weight = (self.weight - self.RATE * slope).clamp(min=1e-3)
        self.weight.copy_(weight * len(self.tasks) / weight.sum())

    def _norm(self, value: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(value, self.shared, retain_graph=True, allow_unused=True)
        return value.new_zeros(()) if gradient is None else average(gradient.float()).norm()


WEIGHTINGS: dict[str, type[Fixed]] = {
    "fixed": Fixed,
    "uncertainty": Uncertainty,
    "dwa": DynamicAverage,
    "gradnorm": GradNorm,
    "geometric": Geometric,
}


def last_kernel(parameters: Sequence[Tensor]) -> Tensor:
    """The last weight matrix or kernel of some layers."""
    return [p for p in parameters if p.ndim > 1][-1]
