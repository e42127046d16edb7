"""Stage `steps` of check.py: a training step of every system, and what takes the time in it.

A part's share is the time between the events of its calls, forward and backward, in a step of its
own, since the events cost some themselves; the backbone's is that of a step of the backbone alone.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from check import make_home, note, said
from torch import Tensor, nn

from mtlcli.models.attention import Attention
from mtlcli.models.deformable_attention import DeformableAttention
from mtlcli.models.deformable_mixer import ChannelSampling, DeformableMixer
from mtlcli.ops.devices import autocast, numerics
from mtlcli.runs.config import RunConfig
from mtlcli.scoring.bench_model import build, build_meta
from mtlcli.training.clock import peak_memory
from mtlcli.training.loop import dry_run

STEPS, WARM = 8, 3
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "multi_task": ("multi_task", {}),
    "itsa pixel": ("demt_itsa", {"query": "pixel"}),
    "itsa deformable": ("demt_itsa", {"query": "deformable"}),
    "itsa global": ("demt_itsa", {"query": "global"}),
    "demt": ("demt", {}),
}
PARTS: dict[str, tuple[type[nn.Module], ...]] = {
    "deformable attention": (DeformableAttention,),
    "global attention": (Attention,),
    "mixers": (DeformableMixer,),
    "sampling of mixers": (ChannelSampling,),
}


def run_steps(options: argparse.Namespace) -> None:
    """A line for each system as soon as it is known."""
    names = ["itsa pixel"] if options.tiny else SYSTEMS
    for name in names:
        system, settings = SYSTEMS[name]
        try:
            found = measure(system, settings, options)
        except Exception as error:
            found = {"failed": said(error)}
        note(options, stage="steps", system=name, **found)
        if torch.device(options.device).type == "cuda":
            torch.cuda.empty_cache()


def measure(system: str, settings: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a step in bfloat16, memory, what --dry-run says of it, and shares."""
    device = torch.device(options.device)
    size, batch = make_home(options)
    config = RunConfig(
        system=system,
        backbone="hrnet18",
        init="random",
        size=size,
        batch_size=batch,
        settings=settings,
    )
    said_before = estimate(config, options)
    with numerics(device, deterministic=False):
        config, _ = build_meta(config)
        network = build(config).to(device).train()
        image = torch.randn(batch, 3, *size, device=device)
        step = make_step(network, image)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        count = 1 if options.tiny else STEPS
        middle = milliseconds(step, device, count)
        memory = peak_memory(device)
        shares = find_shares(network, step, device)
        backbone = milliseconds(make_step(network.backbone, image), device, count)
    return {
        "step_ms": round(middle, 2),
        "batch_size": batch,
        "size": size,
        "memory_gb": round(memory, 2),
        "dry_run": said_before,
        "share": {"backbone": round(backbone / middle, 3)} | shares,
    }


def estimate(config: RunConfig, options: argparse.Namespace) -> str:
    """What `mtl train --dry-run` says, in one line."""
    try:
        return " ".join(dry_run(config, device=options.device).split())
    except Exception as error:
        return said(error)


def make_step(network: nn.Module, image: Tensor) -> Callable[[], None]:
    """Forward and backward in half precision and an update, on random images."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5)

    def step() -> None:
        with autocast(image.device, True):
            outputs = network(image)
        outputs = outputs.values() if isinstance(outputs, dict) else outputs
        optimizer.zero_grad()
        torch.stack([out.float().square().mean() for out in outputs]).sum().backward()
        optimizer.step()

    return step


def milliseconds(step: Callable[[], None], device: torch.device, count: int) -> float:
    """Median, after some to warm up."""
    times = [seconds(step, device) for _ in range(WARM + count)]
    return 1e3 * median(times[WARM:])


def seconds(step: Callable[[], None], device: torch.device) -> float:
    """Of one step."""
    wait(device)
    began = time.perf_counter()
    step()
    wait(device)
    return time.perf_counter() - began


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def find_shares(network: nn.Module, step: Callable[[], None], device: torch.device) -> dict:
    """Of one step's time that passes within parts of the network."""
    clock = Clock(device)
    handles = [
        handle
        for name, kinds in PARTS.items()
        for module in network.modules()
        if isinstance(module, kinds)
        for handle in clock.watch(name, module)
    ]
    begin = clock.now()
    step()
    end = clock.now()
    for handle in handles:
        handle.remove()
    wait(device)
    total = clock.span(begin, end)
    return {name: round(spent / total, 3) for name, spent in clock.spent().items()}


class Clock:
    """Sums the time between marks, by name."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.marks: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
        self.begun: dict[Any, Any] = {}

    def now(self) -> Any:
        """By the device's clock."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def span(self, begin: Any, end: Any) -> float:
        """Between two marks."""
        return begin.elapsed_time(end) if self.device.type == "cuda" else end - begin

    def watch(self, name: str, module: nn.Module) -> list[Any]:
        """From now on note when the module begins and ends, forward and backward."""

        def begin(key: str) -> Callable[..., None]:
            return lambda *_: self.begun.__setitem__((key, module), self.now())

        def end(key: str) -> Callable[..., None]:
            def hook(*_: Any) -> None:
                if (key, module) in self.begun:
                    self.marks[name].append((self.begun.pop((key, module)), self.now()))

            return hook

        return [
            module.register_forward_pre_hook(begin("forward")),
            module.register_forward_hook(end("forward")),
            module.register_full_backward_pre_hook(begin("backward")),
            module.register_full_backward_hook(end("backward")),
        ]

    def spent(self) -> dict[str, float]:
        """Time by name."""
        return {k: sum(self.span(*pair) for pair in pairs) for k, pairs in self.marks.items()}
