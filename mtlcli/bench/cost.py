"""What one image costs the network of a run: parameters, operations and time."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from mtlcli.bench import measure
from mtlcli.bench.flops import count
from mtlcli.bench.model import LONG
from mtlcli.bench.parts import parameters
from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Counted and measured for one image."""

    size: tuple[int, int]  # height and width of the image
    parameters: int
    flops: int  # see `mtlcli.bench.flops`
    latency_ms: float | None = None  # None: not measured
    device: str | None = None  # that it was measured on


def counted(config: RunConfig, dataset: Info) -> Cost:
    """Parameters and operations of a run's network, without numbers and without its weights.

    Args:
        config: of the run.
        dataset: that the run is trained on.

    Raises:
        InputError: this version cannot build that network.
    """
    size = config.size or dataset.size
    try:
        with torch.device("meta"):
            network = checkpoint.build_network(config, dataset).eval()
    except (KeyError, TypeError) as error:
        raise InputError(f"its network does not fit this version of mtl ({error}).") from error
    held = parameters([network])
    return Cost(size=size, parameters=held, flops=count(network, {}, size).total.all)


def timed(cost: Cost, network: nn.Module) -> Cost:
    """The same with the median time of a few passes where the network is.

    On a CPU, one that takes many seconds is left out.
    """
    device = next(network.parameters()).device
    if device.type == "cpu" and cost.flops > LONG:
        return cost
    image = torch.randn(1, 3, *cost.size, device=device)
    latency = measure.latency(network, {}, image, device)[measure.WHOLE]
    return replace(cost, latency_ms=latency, device=str(device))
