"""--batch-size auto: as many pictures as memory holds, before a run begins."""

from dataclasses import replace

import torch
from torch import nn

from mtlcli.data.batches import TrainingStream
from mtlcli.data.loading import stack
from mtlcli.data.reader import Reader
from mtlcli.errors import InputError
from mtlcli.maps._map import NO_OPTIONS
from mtlcli.ops.devices import autocast
from mtlcli.ops.processes import apart, gather, world
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig, resolution
from mtlcli.scoring.trial import free_bytes
from mtlcli.training.backbone import set_training
from mtlcli.training.memory import LIMIT, USABLE, WORKING, device_memory, estimate
from mtlcli.training.selection import split
from mtlcli.training.setup import make_optimizer, place

FEWER = 0.9  # of the pictures that did not fit are tried next


def find_batch(config: RunConfig, reader: Reader, device: torch.device) -> int:
    """Pictures per step that fit: counted from the free memory, on a CUDA device then tried, by
    every process on its own; the fewest count.

    Not more than there are to train on, and a multiple of the passes of all processes.

    Args:
        config: complete but for the batch size.
        reader: of the training split.
        device: of every process.

    Raises:
        InputError: not even one picture fits.
    """
    processes = world()
    passes = config.accumulate * processes
    most = len(split(len(reader), config.holdout)[0]) // passes
    if most < 1:
        raise InputError(f"--batch-size auto: there are fewer pictures than {passes} passes.")
    with apart():
        need = estimate(replace(config, batch_size=config.accumulate), reader.info, device)
        if device.type == "cuda":
            fit = min(need.largest, most)
            while fit and not fits(config, reader, device, fit):
                fit = int(FEWER * fit)
        else:
            room = USABLE * free_memory(device) / processes - need.fixed
            fit = int(min(room / (WORKING * need.per_image), most))
    fit = min(gather(fit))
    if fit < 1:
        ways = "a smaller --size or --crop" + (", --checkpointing" if config.may_recompute else "")
        raise InputError(f"--batch-size auto: not one picture fits into the memory; use {ways}.")
    return fit * passes


def fits(config: RunConfig, reader: Reader, device: torch.device, images: int) -> bool:
    """Whether a step with so many pictures at once leaves a share of the device free: it is made,
    by a network that is thrown away.
    """
    tasks = checkpoint.tasks_of(config.tasks, reader.info)
    options = {name: reader.info.options.get(name, NO_OPTIONS) for name in tasks}
    scale = resolution(config, reader.info.size)
    sample = TrainingStream(
        reader, tasks, config.window, scale, config.seed, moments=config.moments
    )[0]
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        network = place(checkpoint.build_network(config, reader.info), config, device)
        set_training(network, frozen=config.freeze_backbone)
        batch = {name: values.to(device) for name, values in stack([sample] * images).items()}
        with autocast(device, bool(config.amp)):
            logits = network(batch["image"].contiguous(memory_format=torch.channels_last))
        losses = [t.loss(logits[n].float(), batch[n], options[n]) for n, t in tasks.items()]
        torch.stack(losses).sum().backward()
        make_optimizer(network, nn.Module(), config, device).step()
    except torch.OutOfMemoryError:
        return False
    return torch.cuda.max_memory_allocated(device) < USABLE * device_memory(device)


def free_memory(device: torch.device) -> float:
    """Bytes that can still be had, in a container those it may have."""
    free = free_bytes(device)
    try:
        limit, used = ((LIMIT / f"memory.{what}").read_text() for what in ("max", "current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):  # none, or no limit
        return free
