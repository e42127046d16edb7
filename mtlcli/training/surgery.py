"""Gradient surgery: losses weighted so that the common layers move where no task loses, or as
little as can be.

PCGrad, CAGrad and UPGrad combine the tasks' gradients g_i at the layers all tasks use into
sum w_i g_i, with weights that depend on the inner products of the g_i alone. So the losses are
weighted by w, and one backward pass of their sum moves the common layers as the papers say; layers
of one task move with its weight. The weights come from TorchJD (MIT, extra [surgery]). They are
scaled so that gradients that agree are summed, as with fixed weights.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from mtlcli.errors import InputError
from mtlcli.ops.processes import average, by_first
from mtlcli.training.weighting import Fixed, Losses

Weigh = Callable[[Tensor], Tensor]  # inner products of gradients (T, T) -> weights (T,)
NEEDED = ("torchjd", "quadprog", "qpsolvers", "cvxpy")
RADIUS = 0.4  # c of CAGrad, as its paper takes it for NYUv2


class Surgery(Fixed):
    """Weights of the losses from the inner products of their gradients at the common layers."""

    def __init__(self, weights: Mapping[str, float], shared: Sequence[Tensor], epoch: int) -> None:
        super().__init__(weights, shared, epoch)
        self.shared = [[p for p in shared if p.requires_grad]]  # nested: not parameters of this
        self.weigh = self.make(len(self.tasks))

    @staticmethod
    def make(tasks: int) -> Weigh:
        """The rule.

        Raises:
            InputError: the packages it needs are not installed.
        """
        raise NotImplementedError

    def forward(self, losses: Losses) -> Tensor:
        values = self.weighted(losses)
        if not torch.is_grad_enabled():
            return values.sum()
        gradients = torch.stack([self._gradient(value) for value in values])  # (T, parameters)
        products = (gradients @ gradients.T).double().cpu()
        if not products.isfinite().all():  # the loop says which loss is not
            return values.sum()
        weight = by_first(lambda: self.weigh(products))  # random order of tasks: the first's
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
