"""What the loop works with, made from the options of a run; batch norm over all processes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtlcli.backbones import _backbone as backbones
from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError
from mtlcli.models.recompute import recompute
from mtlcli.ops import processes as distributed
from mtlcli.ops.devices import half_type, make_scaler
from mtlcli.ops.processes import world
from mtlcli.runs.checkpoint import build_network, tasks_of
from mtlcli.runs.config import RunConfig
from mtlcli.training.average import Average
from mtlcli.training.backbone import BACKBONE, freeze, split_parameters
from mtlcli.training.state import State
from mtlcli.training.weightings import COMPARING, SURGERIES, WEIGHTINGS, require_torchjd


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


class SharedBatchNormAct(SharedBatchNorm):
    """The same, ending in dropout and an activation, as timm's does."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


def synchronise(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with batch normalisation over all processes: torch's or timm's on CUDA, which
    know their own, else ours.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    activating = [norm for norm in norms if hasattr(norm, "act")]
    if device.type == "cuda":
        if activating:
            from timm.layers import convert_sync_batchnorm

            return convert_sync_batchnorm(network)
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for norm in norms:
        norm.__class__ = SharedBatchNormAct if norm in activating else SharedBatchNorm
    return network


def make_state(
    config: RunConfig,
    network: nn.Module,
    dataset: Info,
    folder: Path,
    device: torch.device,
    images: int,
) -> State:
    """The start of a run that is trained on so many `images`."""
    network = place(network, config, device)
    if distributed.world() > 1:
        network = synchronise(network, device)
    weighting = make_weighting(config, dataset, network, images).to(device)
    if distributed.rank():  # else all would drop the same units, of pictures that differ
        torch.manual_seed(hash((config.seed, 0, distributed.rank())))
    return State(
        config=config,
        dataset=dataset,
        folder=folder,
        network=network,
        optimizer=make_optimizer(network, weighting, config, device),
        scaler=make_scaler(device, bool(config.amp)),
        weighting=weighting,
        device=device,
        average=None if config.ema is None else Average(network, config.ema),
    )


def place(network: nn.Module, config: RunConfig, device: torch.device) -> nn.Module:
    """The network on its device, as the options for memory and for the backbone want it."""
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    network = network.to(device, memory_format=layout)  # type: ignore[call-overload]
    if config.freeze_backbone:
        freeze(network)
    if config.checkpointing:
        recompute(network)
    return network


def make_weighting(config: RunConfig, dataset: Info, network: nn.Module, images: int) -> nn.Module:
    """What makes one loss of those of the tasks; an epoch has so many `images`."""
    weights = {n: task.weight for n, task in tasks_of(config.tasks, dataset).items()}
    epoch = max(1, images // config.batch_size)
    backbone = getattr(network, BACKBONE, nn.Module())
    return WEIGHTINGS[config.weighting](weights, list(backbone.parameters()), epoch)


def leave_to_backbone(config: RunConfig) -> RunConfig:
    """The config with init, mean and deviation of its backbone where it leaves them open."""
    its = backbones.find(config.backbone)
    return replace(
        config,
        init=config.init or its.usual_init,
        mean=config.mean or its.moments[0],
        deviation=config.deviation or its.moments[1],
    )


def check_weighting(config: RunConfig, device: torch.device) -> None:
    """Refuses a weighting that does not exist, or cannot work with the other options.

    Raises:
        InputError: names those that exist, or the option to leave out.
    """
    name = config.weighting
    if name not in WEIGHTINGS:
        raise InputError(f"--weighting {name}: known are {', '.join(WEIGHTINGS)}.")
    if config.accumulate > 1 and not config.may_accumulate:
        raise InputError(
            f"--weighting {name} goes by the losses of a whole batch: leave --accumulate away."
        )
    looks = f"--weighting {name} compares the gradients of the tasks"
    if name in COMPARING:
        if config.compile:
            raise InputError(f"{looks}, which --compile does not keep: leave --compile away.")
        if config.amp and half_type(device) == torch.float16:
            raise InputError(f"{looks}, which vanish in float16: use --no-amp.")
        if config.freeze_backbone:
            raise InputError(f"{looks} at the backbone, which --freeze-backbone fixes: choose one.")
    if name in SURGERIES:
        require_torchjd(name)


def check_network(config: RunConfig, dataset: Info) -> None:
    """Refuses a weighting that compares gradients at common layers where tasks have none.

    Args:
        config: complete.
        dataset: as `checkpoint.build_network` needs it.

    Raises:
        InputError: the system has no backbone that all its tasks use.
    """
    if config.weighting not in COMPARING:
        return
    with torch.device("meta"):
        network = build_network(config, dataset)
    if not hasattr(network, BACKBONE):
        raise InputError(
            f"--weighting {config.weighting} compares the gradients of the tasks at the backbone "
            f"that they share, and {config.system} has none: use --weighting fixed."
        )


def make_optimizer(
    network: nn.Module, weighting: nn.Module, config: RunConfig, device: torch.device
) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW; weight decay on the whole network, as DeMT does.

    AdamW takes the scale of a gradient out of its step, and with it the gradient scale lambda. A
    group's `factor` is what `set_learning_rate` multiplies the rate by.
    """
    learning = [p for p in network.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": learning}]
    if config.backbone_lr_factor != 1:
        others, backbone = split_parameters(network)
        groups = [{"params": others}, {"params": backbone, "factor": config.backbone_lr_factor}]
    if learnt := list(weighting.parameters()):
        groups.append({"params": learnt, "weight_decay": 0.0})
    shared: dict[str, Any] = {
        "lr": config.lr,
        "weight_decay": config.weight_decay,
        "fused": device.type == "cuda",
    }
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, **shared)
    return torch.optim.SGD(groups, momentum=config.momentum, **shared)


def clip_gradient(state: State) -> None:
    """Shrink the gradient of the network, of the whole batch, to the norm that the run allows."""
    if state.config.clip is not None:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.network.parameters(), state.config.clip)


def prepare_network(network: nn.Module, config: RunConfig, device: torch.device) -> nn.Module:
    """The network as the loop calls it: shared among processes, compiled."""
    shared = network
    if distributed.world() > 1:
        own = [device] if device.type == "cuda" else None
        shared = DistributedDataParallel(network, device_ids=own)
    return torch.compile(shared) if config.compile else shared  # type: ignore[return-value]
