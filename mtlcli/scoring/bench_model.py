"""`mtl bench model`: what a network costs, part by part, before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from mtlcli import datasets
from mtlcli.data.hdf5 import Info
from mtlcli.ops.devices import pick_device
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.runs.table import markdown
from mtlcli.scoring.cost import (
    LONG,
    WHOLE,
    Flops,
    Part,
    count,
    latency,
    parameters,
    parts,
    saved_bytes,
)
from mtlcli.systems import _settings as settings

CONVENTIONS = {
    "flops": "one image; matrix products and convolutions as torch.utils.flop_counter counts them, "
    "2 per multiply-add; norms, activations, additions and resizing left out",
    "softmax": "3 per element",
    "sampling": "16 per point, 8 per bilinear value, 2 more where it is weighed",
    "saved_bytes": "kept for the backward pass of one image, without weights",
    "latency_ms": "one image, evaluation, median of up to 5 passes",
}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What was counted and measured, by path (see `mtlcli.scoring.cost`)."""

    config: RunConfig
    params: Mapping[str, int]
    flops: Mapping[str, Flops] | None = None
    saved: Mapping[str, int] | None = None
    latency: Mapping[str, float] | None = None
    device: str | None = None  # that memory and time were measured on

    def to_json(self) -> dict[str, Any]:
        """Everything as plain types; "total" stands beside the paths."""
        config = self.config.to_json()
        names = ("dataset", "tasks", "system", "backbone", "settings", "size")
        record: dict[str, Any] = {name: config[name] for name in names}
        record["params"] = dict(self.params)
        if self.flops:
            record["flops"] = {path: f.to_json() for path, f in self.flops.items()}
        if self.latency and self.saved:
            record |= {"device": self.device, "saved_bytes": dict(self.saved)}
            record["latency_ms"] = dict(self.latency)
        return record | {"conventions": CONVENTIONS}

    def table(self) -> str:
        """One row per part, inner ones indented."""
        record = self.to_json()
        columns: dict[str, tuple[Mapping[str, Any], float]] = {}  # heading -> values, their unit
        for kind in ("matmul", "softmax", "sampling") if self.flops else ():
            values = {path: flops[kind] for path, flops in record["flops"].items()}
            columns["GFLOP" if kind == "matmul" else kind] = values, 1e9
        if self.latency:
            columns |= {"saved MB": (record["saved_bytes"], 1e6), "ms": (record["latency_ms"], 1.0)}
        rows = [
            ["  " * path.count(".") + path.rpartition(".")[2], f"{held:,}"]
            + [_cell(values.get(path), unit) for values, unit in columns.values()]
            for path, held in self.params.items()
        ]
        shown = markdown(["part", "parameters", *columns], rows)
        if self.flops and not self.latency:
            return f"{shown}\nNot run: it takes a CPU long; --slow runs it."
        return shown


def bench(
    config: RunConfig, *, params_only: bool = False, slow: bool = False, device: str = "auto"
) -> Bench:
    """Count and measure the network of a run.

    Args:
        config: its dataset's record is used, no dataset file; without tasks, all of the dataset's.
        params_only: leave it at the parameters.
        slow: run also what takes a CPU long.
        device: auto, cpu, cuda or mps.

    Raises:
        InputError: a name, setting or device that does not exist.
    """
    target = pick_device(device)
    config, network = build_meta(config)
    found: dict[str, Part] = {WHOLE: [network], **parts(network)}
    params = {path: parameters(part) for path, part in found.items()}
    counted = Bench(config=config, params=params)
    if params_only:
        return counted
    assert config.size is not None
    flops = count(network, parts(network), config.size)
    counted = replace(counted, flops=flops)
    if target.type == "cpu" and flops[WHOLE].all > LONG and not slow:
        return counted
    with target:
        network, image = build(config), torch.randn(1, 3, *config.size)
    found = parts(network)
    times, saved = latency(network, found, image), saved_bytes(network, found, image)
    return replace(counted, latency=times, saved=saved, device=str(target))


def build_meta(config: RunConfig) -> tuple[RunConfig, nn.Module]:
    """Name all options of a run, and build its network without numbers, in evaluation mode."""
    dataset = datasets.find(config.dataset)
    config = replace(
        config,
        tasks=config.tasks or dataset.tasks,
        size=config.size or dataset.size,
        settings=settings.complete(config.system, config.settings),
    )
    with torch.device("meta"):
        return config, build(config).eval()


def build(config: RunConfig) -> nn.Module:
    """Build the network of a run on a dataset that has a record here."""
    dataset = datasets.find(config.dataset)
    info = Info(title=dataset.title, size=dataset.size, classes=dataset.classes)
    return checkpoint.build_network(config, info)


def _cell(value: float | None, unit: float) -> str:
    if value is None:
        return "-"
    return f"{value / unit:,.1f}" if value else "0"
