"""Batch normalisation over the batch of all processes; torch's own needs CUDA devices."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mtlcli.ops.processes import world


class SharedBatchNorm(nn.BatchNorm2d):
    """Statistics are those of the batches of all processes together, gradients too.

    Sums are float64, so that mean and variance are those of one process but for rounding.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or world() == 1:
            return super().forward(x)
        axes, wide = (0, 2, 3), x.double()
        count = x.new_full((1,), x.numel() // x.shape[1], dtype=torch.float64)
        sums = torch.cat((wide.sum(axes), wide.square().sum(axes), count))
        total = _Sum.apply(sums)
        mean, square = (total[:-1] / total[-1].detach()).chunk(2)
        variance = (square - mean.square()).clamp(min=0)
        self._track(mean.detach(), variance.detach(), float(total[-1].detach()))
        scale = (variance + self.eps).rsqrt() * self.weight
        shift = self.bias - mean * scale
        return (wide * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: float) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        unbiased = variance * count / max(count - 1, 1)
        for running, now in ((self.running_mean, mean), (self.running_var, unbiased)):
            running.lerp_(now.to(running.dtype), self.momentum or 0.0)


class _Sum(torch.autograd.Function):
    """The sum over the processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def synchronise(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with batch normalisation over all processes: torch's on CUDA, else ours."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
    return network
