"""How the losses of several tasks become the one that is minimised.

Each is a module {task: loss} -> scalar that starts from the paper's fixed weights; what it learns
or remembers is saved with the run. A task without a label in the batch has a loss of 0, which says
nothing: nothing is learnt or remembered of it. A new one is a class and its name in WEIGHTINGS.

Gradient surgery weighs losses so that the common layers move where no task loses, or as little as
can be. PCGrad, CAGrad and UPGrad combine the tasks' gradients g_i at the layers all tasks use into
sum w_i g_i, with weights that depend on the inner products of the g_i alone. So the losses are
weighted by w, and one backward pass of their sum moves the common layers as the papers say; layers
of one task move with its weight. The weights come from TorchJD (MIT, extra [surgery]). They are
scaled so that gradients that agree are summed, as with fixed weights.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from mtlcli.errors import InputError
from mtlcli.ops.processes import average, by_first, world

Losses = Mapping[str, Tensor]
Weigh = Callable[[Tensor], Tensor]  # inner products of gradients (T, T) -> weights (T,)
NEEDED = ("torchjd", "quadprog", "qpsolvers", "cvxpy")  # by gradient surgery
RADIUS = 0.4  # c of CAGrad, as its paper takes it for NYUv2


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

    def forward(self, losses: Losses, labelled: Tensor | None = None) -> Tensor:
        """
        Args:
            losses: task -> scalar of this process.
            labelled: (T,) bool, which tasks have a label in the batch of all processes; None: all.
        """
        return self.combine(self.weighted(losses), self._mask(labelled))

    def combine(self, values: Tensor, mask: Tensor) -> Tensor:
        """The scalar to minimise of (T,) weighted losses, of which those count whose mask is 1."""
        return values.sum()

    def _mask(self, labelled: Tensor | None) -> Tensor:
        return torch.ones_like(self.fixed) if labelled is None else labelled.to(self.fixed)


class Uncertainty(Fixed):
    """Learnt homoscedastic uncertainty: sum of exp(-s) L + s (Kendall et al., arXiv 1705.07115)."""

    def __init__(self, weights: Mapping[str, float], shared: Sequence[Tensor], epoch: int) -> None:
        super().__init__(weights, shared, epoch)
        self.log_variance = nn.Parameter(torch.zeros(len(self.tasks)))

    def combine(self, values: Tensor, mask: Tensor) -> Tensor:
        return ((values * (-self.log_variance).exp() + self.log_variance) * mask).sum()


class Geometric(Fixed):
    """Geometric mean of the losses (Chennupati et al., arXiv 1904.08492): scales do not matter."""

    def combine(self, values: Tensor, mask: Tensor) -> Tensor:
        logs = values.clamp(min=1e-8).log() * mask
        return (logs.sum() / mask.sum().clamp(min=1)).exp() * mask.max()


class DynamicAverage(Fixed):
    """Tasks that learn slowly weigh more: softmax of L(e - 1) / L(e - 2) over epochs e, temperature
    2, times the number of tasks (Liu et al., arXiv 1803.10704, equation 7).
    """

    TEMPERATURE = 2.0
    seen: Tensor
    running: Tensor
    counted: Tensor
    before: Tensor

    def __init__(self, weights: Mapping[str, float], shared: Sequence[Tensor], epoch: int) -> None:
        super().__init__(weights, shared, epoch)
        self.epoch, count = epoch, len(self.tasks)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("running", torch.zeros(count))  # sum over this epoch
        self.register_buffer("counted", torch.zeros(count))  # iterations that had labels in it
        self.register_buffer("before", torch.ones(2, count))  # means of epochs e - 2 and e - 1

    def combine(self, values: Tensor, mask: Tensor) -> Tensor:
        ratio = torch.ones_like(values)
        if self.seen >= 2 * self.epoch:
            ratio = self.before[1] / self.before[0].clamp(min=1e-8)
        ratio = ratio.masked_fill((mask == 0) & mask.any(), -torch.inf)
        share = torch.softmax(ratio / self.TEMPERATURE, 0) * mask.sum()
        total = (share * values).sum()
        if torch.is_grad_enabled():
            self._remember(values.detach(), mask)
        return total

    def _remember(self, values: Tensor, mask: Tensor) -> None:
        """A task without a label in a whole epoch keeps its mean of the one before."""
        self.seen += 1
        self.running += values * mask
        self.counted += mask
        if self.seen % self.epoch == 0:
            mean = self.running / self.counted.clamp(min=1)
            mean = torch.where(self.counted > 0, mean, self.before[1])
            self.before.copy_(torch.stack((self.before[1], mean)))
            self.running.zero_()
            self.counted.zero_()


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

    def combine(self, values: Tensor, mask: Tensor) -> Tensor:
        total = (self.weight.clone() * values).sum()
        if torch.is_grad_enabled():
            self._adapt(values, mask)
        return total

    def _adapt(self, values: Tensor, mask: Tensor) -> None:
        """One step of the weights on sum |w G - mean(w G) r^alpha|, whose sign is its slope.

        L(0) of a task is its loss in the first batch that has a label for it.
        """

        def mean(each: Tensor) -> Tensor:
            return (each * mask).sum() / mask.sum().clamp(min=1)

        norms = torch.stack([self._norm(value) for value in values]).to(values.dtype)
        now = values.detach()
        self.first.copy_(torch.where((self.first == 0) & (mask > 0), now, self.first))
        speed = now / self.first.clamp(min=1e-8)
        pace = (speed / mean(speed).clamp(min=1e-8)) ** self.ALPHA
        wanted = mean(self.weight * norms) * pace
        slope = torch.sign(self.weight * norms - wanted) * norms / mean(norms).clamp(min=1e-8)
        slope = slope * mask
        weight = (self.weight - self.RATE * slope).clamp(min=1e-3)
        room = len(self.tasks) - (self.weight * (1 - mask)).sum()  # the others keep their weights
        weight = weight * room / (weight * mask).sum().clamp(min=1e-8)
        self.weight.copy_(torch.where(mask > 0, weight, self.weight))

    def _norm(self, value: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(value, self.shared, retain_graph=True, allow_unused=True)
        return value.new_zeros(()) if gradient is None else average(gradient.float()).norm()


def last_kernel(parameters: Sequence[Tensor]) -> Tensor:
    """The last weight matrix or kernel of some layers."""
    return [p for p in parameters if p.ndim > 1][-1]


class Surgery(Fixed):
    """Weights of the losses from the inner products of their gradients at the common layers."""

    def __init__(self, weights: Mapping[str, float], shared: Sequence[Tensor], epoch: int) -> None:
        super().__init__(weights, shared, epoch)
        self.shared = [[p for p in shared if p.requires_grad]]  # nested: not parameters of this
        self.weigh = cache(self.make)

    @staticmethod
    def make(tasks: int) -> Weigh:
        """The rule.

        Raises:
            InputError: the packages it needs are not installed.
        """
        raise NotImplementedError

    def combine(self, values: Tensor, mask: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return values.sum()
        gradients = torch.stack([self._gradient(value) for value in values])  # (T, parameters)
        products = (gradients @ gradients.T).double().cpu()
        if not products.isfinite().all():  # the loop says which loss is not
            return values.sum()
        known = mask.nonzero().flatten().cpu()
        weight = torch.ones(len(values), dtype=torch.float64)
        if len(known):
            weigh, inner = self.weigh(len(known)), products[known][:, known]
            weight[known] = by_first(lambda: weigh(inner)).double()  # random order: the first's
        return (weight.to(values) * values).sum()

    def _gradient(self, value: Tensor) -> Tensor:
        """Of the batch of all processes, flat, float32."""
        (shared,) = self.shared
        found = torch.autograd.grad(
            value, shared, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return average(torch.cat([g.float().flatten() for g in found])).float()


class PCGrad(Surgery):
    """Each gradient is projected off those it conflicts with, in random order, then all are summed
    (Yu et al., arXiv 2001.06782, algorithm 1).
    """

    @staticmethod
    def make(tasks: int) -> Weigh:
        """The rule, see `Surgery.make`."""
        require_torchjd("pcgrad")
        from torchjd.aggregation import PCGradWeighting

        return PCGradWeighting()


class CAGrad(Surgery):
    """The direction near the mean gradient that serves the worst-off task best (Liu et al., arXiv
    2110.14048, algorithm 1), times the number of tasks.
    """

    @staticmethod
    def make(tasks: int) -> Weigh:
        """The rule, see `Surgery.make`."""
        require_torchjd("cagrad")
        from torchjd.aggregation import CAGradWeighting

        weighting = CAGradWeighting(c=RADIUS)
        return lambda products: tasks * weighting(products)


class UPGrad(Surgery):
    """Each gradient is projected on the cone of directions in which no loss rises, then all are
    summed (Quinton and Rey, arXiv 2406.16232, equation 5).
    """

    @staticmethod
    def make(tasks: int) -> Weigh:
        """The rule, see `Surgery.make`."""
        require_torchjd("upgrad")
        from torchjd.aggregation import UPGradWeighting

        return UPGradWeighting(pref_vector=torch.ones(tasks, dtype=torch.float64))


SURGERIES: dict[str, type[Surgery]] = {"pcgrad": PCGrad, "cagrad": CAGrad, "upgrad": UPGrad}
COMPARING = ("gradnorm", *SURGERIES)  # the gradients of the tasks at the layers they share
WEIGHTINGS: dict[str, type[Fixed]] = {
    "fixed": Fixed,
    "uncertainty": Uncertainty,
    "dwa": DynamicAverage,
    "gradnorm": GradNorm,
    "geometric": Geometric,
    **SURGERIES,
}


def require_torchjd(name: str) -> None:
    """Refuses a weighting whose packages are missing.

    Raises:
        InputError: says what to install.
    """
    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        raise InputError(
            f"--weighting {name} needs {', '.join(missing)}: pip install 'mtlcli[surgery]'."
        )
