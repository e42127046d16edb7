"""`mtl train --dry-run`: what memory a run needs, and which batch fits, before it is started."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from mtlcli.data.hdf5 import Info
from mtlcli.files import gigabytes
from mtlcli.models.recompute import recompute
from mtlcli.ops.devices import autocast
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.scoring.cost import parameters
from mtlcli.training.backbone import freeze
from mtlcli.training.shapes import pass_batch, trace

MOMENTS = {"sgd": 1, "adamw": 2}  # numbers that an optimiser keeps of each parameter that learns
USABLE = 0.9  # of the memory; the rest is for libraries and fragments
WORKING = 1.7  # times what is counted: on a CPU 0.8 to 1.3, recomputing 1.2 to 1.6
LIMIT = Path("/sys/fs/cgroup")  # of a container: memory.max and memory.current


@dataclass(frozen=True, kw_only=True)
class Need:
    """Memory of a run, in bytes."""

    parameters: int  # a count, not bytes
    fixed: int  # weights, their average, gradients, moments
    per_image: int  # of a forward and backward pass
    there: int  # memory of the device
    batch: int  # images that are passed at once
    measured: bool  # on the device, or counted from the shapes
    tensors: int = 0  # that a pass makes, where it was counted
    made: int = 0  # bytes of these
    margin: float = 1.0  # times `per_image` that an image may take

    @property
    def needed(self) -> int:
        """At the peak of a step."""
        return self.fixed + self.batch * self.per_image

    @property
    def largest(self) -> int:
        """How many images can be passed at once."""
        room = USABLE * self.there - self.fixed
        return max(0, int(room // (self.margin * self.per_image)))

    def text(self, config: RunConfig) -> str:
        """What it means for a run."""
        height, width = config.window
        how = "measured" if self.measured else "counted from the shapes"
        lines = [
            f"{self.parameters:,} parameters",
            f"memory: {gigabytes(self.fixed)} fixed, {gigabytes(self.per_image)} per image of "
            f"{height}x{width} ({how})",
            f"{self.batch} images at once: {gigabytes(self.needed)} "
            f"of {gigabytes(self.there)}; {self.largest} fit",
        ]
        if self.largest < self.batch:
            lines.append(self.remedy(config))
        return "\n".join(lines)

    def remedy(self, config: RunConfig) -> str:
        """Options with which the run fits."""
        parts = [n for n in range(1, config.batch_size + 1) if config.batch_size % n == 0]
        fitting = [n for n in parts if config.batch_size // n <= self.largest]
        ways = ["a smaller --size or --crop"]
        if fitting and config.may_accumulate:
            ways = [f"--accumulate {fitting[0]}"]
        elif fitting:
            ways = [f"--batch-size {self.largest}"]
        ways += ["--checkpointing"] if config.may_recompute else []
        return f"does not fit: use {' or '.join(ways)}"


def estimate(config: RunConfig, dataset: Info, device: torch.device) -> Need:
    """What a run with these options needs: measured on a CUDA device, counted elsewhere.

    Args:
        config: complete.
        dataset: as `checkpoint.build_network` needs it.
        device: to train on.
    """
    there = device_memory(device)
    if device.type != "cuda":
        need = count_need(config, dataset, amp=bool(config.amp), there=there)
        return replace(need, margin=WORKING)
    with device:
        network = checkpoint.build_network(config, dataset).train()
    if config.freeze_backbone:
        freeze(network)
    if config.checkpointing:
        recompute(network)
    return Need(
        parameters=parameters([network]),
        fixed=fixed_bytes(config, network),
        per_image=measure_bytes(network, config, dataset, device),
        there=there,
        batch=config.batch_size // config.accumulate,
        measured=True,
    )


def count_need(config: RunConfig, dataset: Info, *, amp: bool, there: int) -> Need:
    """What a run needs of a device with so many bytes, counted without it: see `trace`."""
    with torch.device("meta"):
        network = checkpoint.build_network(config, dataset)
    if config.freeze_backbone:
        freeze(network)
    batch = config.batch_size // config.accumulate
    step = trace(config, dataset, batch, amp=amp)
    return Need(
        parameters=parameters([network]),
        fixed=fixed_bytes(config, network),
        per_image=max(1, step.peak // batch),
        there=there,
        batch=batch,
        measured=False,
        tensors=step.tensors,
        made=step.made,
    )


def fixed_bytes(config: RunConfig, network: nn.Module) -> int:
    """Of the weights and their average, and of those that learn the gradients and what the
    optimiser keeps, float32.
    """
    learning = sum(p.numel() for p in network.parameters() if p.requires_grad)
    copies = 1 if config.ema is None else 2
    return 4 * (copies * parameters([network]) + (1 + MOMENTS[config.optimizer]) * learning)


def measure_bytes(
    network: nn.Module, config: RunConfig, dataset: Info, device: torch.device
) -> int:
    """Of each image more in a forward and backward pass on a CUDA device."""
    peaks = []
    for images in (1, 2):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with device:
            pass_batch(network, autocast(device, bool(config.amp)), config, dataset, images)
        network.zero_grad(set_to_none=True)
        peaks.append(torch.cuda.max_memory_allocated(device) - before)
    return max(1, peaks[1] - peaks[0])


def device_memory(device: torch.device) -> int:
    """Bytes of the device, or of this machine, in a container those it may have."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(there, int((LIMIT / "memory.max").read_text()))
    except (OSError, ValueError):  # none, or no limit
        return there
