"""`mtl bench model`: what a network costs, part by part, before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from mtlcli import lookup
from mtlcli.bench import measure
from mtlcli.bench.flops import Count, count
from mtlcli.bench.parts import Part, leaves, parameters, parts
from mtlcli.data.hdf5 import Info
from mtlcli.ops.devices import pick_device
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.runs.table import markdown
from mtlcli.systems import _settings as settings

LONG = 5e11  # operations that take a CPU many seconds
UNITS = {"flops": 1e9, "saved_bytes": 1e6, "latency_ms": 1.0}
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
    """What was counted and measured; paths are those of `mtlcli.bench.parts`."""

    config: RunConfig
    params: Mapping[str, int]
    count: Count | None = None
    saved: Mapping[str, int] | None = None
    latency: Mapping[str, float] | None = None
    skipped: tuple[str, ...] = ()  # too long for this device
    device: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Everything as plain types; "total" stands beside the paths."""
        config = self.config.to_json()
        names = ("dataset", "tasks", "system", "backbone", "settings", "size")
        record: dict[str, Any] = {name: config[name] for name in names}
        record["params"] = dict(self.params)
        if self.count:
            flops = {measure.WHOLE: self.count.total, **self.count.parts}
            record["flops"] = {path: f.to_json() for path, f in flops.items()}
        if self.latency and self.saved:
            record |= {"device": self.device, "skipped": list(self.skipped)}
            record["saved_bytes"] = self._without_skipped(self.saved)
            record["latency_ms"] = self._without_skipped(self.latency)
        return record | {"conventions": CONVENTIONS}

    def table(self) -> str:
        """One row per part, inner ones indented."""
        record = self.to_json()
        head = ["part", "parameters"]
        if self.count:
            head += ["GFLOP", "softmax", "sampling"]
        if self.latency:
            head += ["saved MB", "ms"]
        rows = [self._row(path, record) for path in self.params]
        lines = [markdown(head, rows)]
        if self.skipped:
            lines.append(f"Not run, as too long for {self.device}: {', '.join(self.skipped)} ")
            lines[-1] += "(--slow runs them)."
        return "\n".join(lines)

    def _without_skipped(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """None for what is, or holds, a part that was not run."""

        def holds(path: str) -> bool:
            return any(s == path or s.startswith(f"{path}.") for s in self.skipped)

        incomplete = {p for p in values if holds(p) or (p == measure.WHOLE and self.skipped)}
        return {p: None if p in incomplete else v for p, v in values.items()}

    def _row(self, path: str, record: Mapping[str, Any]) -> list[str]:
        *outer, name = path.split(".")
        cells = ["  " * len(outer) + name, f"{self.params[path]:,}"]
        if self.count:
            flops = record["flops"].get(path, {})
            kinds = ("matmul", "softmax", "sampling")
            cells += [_cell(flops.get(kind), UNITS["flops"]) for kind in kinds]
        if self.latency:
            keys = ("saved_bytes", "latency_ms")
            cells += [_cell(record[key].get(path), UNITS[key]) for key in keys]
        return cells


def bench(
    config: RunConfig, *, params_only: bool = False, slow: bool = False, device: str = "auto"
) -> Bench:
    """Count and measure the network of a run.

    Args:
        config: its dataset's record is used, no dataset file; without tasks, all of the dataset's.
        params_only: leave it at the parameters.
        slow: also run what takes a CPU long.
        device: auto, cpu, cuda or mps.

    Raises:
        InputError: a name, setting or device that does not exist.
    """
    target = pick_device(device)
    config, network = build_meta(config)
    found = parts(network)
    params = {measure.WHOLE: parameters([network])}
    params |= {path: parameters(part) for path, part in found.items()}
    counted = Bench(config=config, params=params)
    if params_only:
        return counted
    shapes = output_shapes(network, config)
    counted = replace(counted, count=count(network, found, config.size))  # type: ignore[arg-type]
    with target:
        real = build(config)
    return run(counted, real, shapes, target, slow)


def build_meta(config: RunConfig) -> tuple[RunConfig, nn.Module]:
    """The run with all its options named, and its network without numbers, in evaluation mode."""
    dataset = lookup.load("datasets", config.dataset).DATASET
    config = replace(
        config,
        tasks=config.tasks or dataset.tasks,
        size=config.size or dataset.size,
        settings=settings.complete(config.system, config.settings),
    )
    with torch.device("meta"):
        return config, build(config).eval()


def build(config: RunConfig) -> nn.Module:
    """The network of a run on a dataset that has a record here."""
    dataset = lookup.load("datasets", config.dataset).DATASET
    info = Info(title=dataset.title, size=dataset.size, classes=dataset.classes)
    return checkpoint.build_network(config, info)


def output_shapes(network: nn.Module, config: RunConfig) -> dict[str, torch.Size]:
    """What each module answers an image with, by name; only modules that answer with a tensor."""
    shapes: dict[str, torch.Size] = {}
    hooks = []
    for name, module in network.named_modules():

        def note(module: nn.Module, arguments: Any, output: Any, name: str = name) -> None:
            if isinstance(output, torch.Tensor):
                shapes[name] = output.shape

        hooks.append(module.register_forward_hook(note))
    assert config.size is not None
    with torch.no_grad():
        network(torch.empty(1, 3, *config.size, device="meta"))
    for hook in hooks:
        hook.remove()
    return shapes


def run(
    counted: Bench,
    network: nn.Module,
    shapes: Mapping[str, torch.Size],
    device: torch.device,
    slow: bool,
) -> Bench:
    """The same with time and memory, measured on a device."""
    assert counted.count is not None
    assert counted.config.size is not None
    found = parts(network)
    skipped = () if slow or device.type != "cpu" else too_long(counted.count, found)
    names = {module: name for name, module in network.named_modules()}
    absent = {
        module: shapes[names[module]]
        for path in skipped
        for module in found[path]
        if isinstance(module, nn.Module)
    }
    image = torch.randn(1, 3, *counted.config.size, device=device)
    with measure.skipping(absent):
        latency = measure.latency(network, found, image, device)
        saved = measure.saved_bytes(network, found, image)
    return replace(counted, latency=latency, saved=saved, skipped=skipped, device=str(device))


def too_long(counted: Count, found: Mapping[str, Part]) -> tuple[str, ...]:
    """Paths of the innermost modules that take a CPU long."""
    innermost = leaves(dict(found))
    return tuple(path for path in innermost if counted.parts[path].all > LONG)


def _cell(value: float | None, unit: float) -> str:
    if value is None:
        return "-"
    return f"{value / unit:,.1f}" if value else "0"
