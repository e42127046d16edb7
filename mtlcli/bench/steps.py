"""Training steps on one batch that stays in memory: what each option saves in time and memory."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mtlcli.bench.stopwatch import timed
from mtlcli.data.hdf5 import Info
from mtlcli.ops.precision import autocast, numerics
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.training.setup import make_state, prepared
from mtlcli.training.state import State

LAYOUTS = {True: torch.channels_last, False: torch.contiguous_format}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A set of options; the first of a bench is what the others are compared with."""

    name: str
    amp: bool = False
    compile: bool = False
    checkpointing: bool = False
    channels_last: bool = False

    def config(self, config: RunConfig) -> RunConfig:
        """The run with these options."""
        return replace(config, amp=self.amp, compile=self.compile, checkpointing=self.checkpointing)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one variant took."""

    variant: Variant
    images_per_s: float | None = None
    peak_bytes: int | None = None  # by which memory grows in a step
    absent: str | None = None  # why it was not measured


VARIANTS = (
    Variant(name="plain"),
    Variant(name="channels_last", channels_last=True),
    Variant(name="--amp", amp=True),
    Variant(name="--amp, channels_last", amp=True, channels_last=True),
    Variant(name="--amp, channels_last, --checkpointing", amp=True, channels_last=True,
            checkpointing=True),
    Variant(name="--checkpointing", checkpointing=True),
    Variant(name="--compile", compile=True),
    Variant(name="--amp, channels_last, --compile", amp=True, channels_last=True, compile=True),
)  # fmt: skip


def measure(
    variant: Variant,
    config: RunConfig,
    dataset: Info,
    batch: Mapping[str, Tensor],
    device: torch.device,
    repeats: int,
) -> Row:
    """The row of a variant; what this device cannot do is said in it."""
    own = variant.config(config)
    torch.manual_seed(0)
    try:
        network = checkpoint.build_network(own, dataset)
        state = make_state(own, network, dataset, Path(), device, len(batch["image"]))
        network.to(memory_format=LAYOUTS[variant.channels_last])  # type: ignore[call-overload]
        image = batch["image"].to(device, memory_format=LAYOUTS[variant.channels_last])
        moved = {name: values.to(device) for name, values in batch.items()} | {"image": image}
        forward = prepared(network, own, device)
        with numerics(device, deterministic=False):
            step(state, forward, moved)  # gradients and momentum take their memory
            timing = timed(lambda: step(state, forward, moved), device, repeats)
    except RuntimeError as error:
        return Row(variant=variant, absent=str(error).splitlines()[0])
    finally:
        with suppress(AttributeError):
            torch.compiler.reset()
    rate = len(image) / (timing.ms / 1e3)
    return Row(variant=variant, images_per_s=rate, peak_bytes=timing.extra_bytes)


def step(state: State, forward: nn.Module, batch: Mapping[str, Tensor]) -> None:
    """One step of `mtlcli.training.loop`'s loop."""
    tasks = checkpoint.tasks_of(state.config.tasks, state.dataset)
    options = {name: state.dataset.options.get(name, {}) for name in tasks}
    state.optimizer.zero_grad(set_to_none=True)
    with autocast(state.device, bool(state.config.amp)):
        logits = forward(batch["image"])
    loss = {n: t.loss(logits[n].float(), batch[n], options[n]) for n, t in tasks.items()}
    state.scaler.scale(state.weighting(loss)).backward()
    state.scaler.step(state.optimizer)
    state.scaler.update()
