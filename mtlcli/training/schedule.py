"""The learning rate of every iteration."""

from math import cos, pi

import torch

from mtlcli.runs.config import RunConfig


def set_learning_rate(optimizer: torch.optim.Optimizer, config: RunConfig, iteration: int) -> None:
    """The rate of an iteration, counted from 0; a group's `factor` is its share of it."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, iteration) * group.get("factor", 1.0)


def learning_rate(config: RunConfig, iteration: int) -> float:
    """Warm-up: lr (iteration + 1) / warmup. After it, with t from 0 to 1 over what is left:
    poly lr (1 - t)^power, DeMT's, or cosine lr (1 + cos(pi t)) / 2 (arXiv 1608.03983).
    """
    if iteration < config.warmup:
        return config.lr * (iteration + 1) / config.warmup
    done = (iteration - config.warmup) / (config.iterations - config.warmup)
    if config.schedule == "cosine":
        return config.lr * (1 + cos(pi * done)) / 2
    return config.lr * (1 - done) ** config.power
