"""What the cells of an experiment cost, measured side by side in one run."""

import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import torch
from torch import nn

from mtlcli.runs.config import RunConfig
from mtlcli.scoring.bench_model import build, build_meta
from mtlcli.scoring.cost import count
from mtlcli.scoring.parts import WHOLE, parameters

ROUNDS = 3


def measure_cells(
    configs: Mapping[str, RunConfig], device: torch.device
) -> dict[str, dict[str, Any]]:
    """Label -> `params`, `flops` of one image forward (all kinds), `seconds_per_iteration`.

    An iteration is a forward and a backward pass of a batch; what optimiser and data take is
    left out. The cells take turns, and the median of their rounds counts.
    """
    networks, counted = {}, {}
    for label, config in configs.items():
        config, empty = build_meta(config)
        assert config.size is not None
        flops = count(empty, {}, config.size)[WHOLE].all
        counted[label] = {"params": parameters([empty]), "flops": flops}
        networks[label] = (build(config).to(device).train(), config)
    times: dict[str, list[float]] = {label: [] for label in configs}
    for round_ in range(ROUNDS + 1):
        for label, (network, config) in networks.items():
            seconds = time_step(network, config, device)
            if round_:
                times[label].append(seconds)
    return {n: c | {"seconds_per_iteration": median(times[n])} for n, c in counted.items()}


def time_step(network: nn.Module, config: RunConfig, device: torch.device) -> float:
    """Seconds of one forward and backward pass of a batch of noise."""
    assert config.size is not None
    images = torch.randn(config.batch_size, 3, *config.size, device=device)
    began = time.perf_counter()
    torch.stack([out.float().square().mean() for out in network(images).values()]).sum().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
