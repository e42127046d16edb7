"""What the cells of an experiment cost, measured side by side in one run."""

import time
from collections.abc import Mapping
from statistics import median
from typing import Any

import torch
from torch import nn

from mtlcli.bench.flops import count
from mtlcli.bench.model import build, build_meta
from mtlcli.bench.parts import parts
from mtlcli.runs.config import RunConfig

ROUNDS = 3


def costs(configs: Mapping[str, RunConfig], device: torch.device) -> dict[str, dict[str, Any]]:
    """Label -> `params`, `flops` of one image forward (all kinds), `seconds_per_iteration`.

    An iteration is a forward and a backward pass of a batch; what optimiser and data take is
    left out. The cells take turns, and the median of their rounds counts.
    """
    networks, counted = {}, {}
    for label, config in configs.items():
        config, empty = build_meta(config)
        flops = count(empty, parts(empty), config.size).total.all  # type: ignore[arg-type]
        counted[label] = {"params": sum(p.numel() for p in empty.parameters()), "flops": flops}
        networks[label] = (build(config).to(device).train(), config)
    times: dict[str, list[float]] = {label: [] for label in configs}
    for round_ in range(ROUNDS + 1):
        for label, (network, config) in networks.items():
            seconds = step(network, config, device)
            if round_:
                times[label].append(seconds)
    return {n: c | {"seconds_per_iteration": median(times[n])} for n, c in counted.items()}


def step(network: nn.Module, config: RunConfig, device: torch.device) -> float:
    """Seconds of one forward and backward pass of a batch of noise."""
    assert config.size is not None
    images = torch.randn(config.batch_size, 3, *config.size, device=device)
    began = time.perf_counter()
    torch.stack([out.float().square().mean() for out in network(images).values()]).sum().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
