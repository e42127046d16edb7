"""What a training step waits for, and what each option for speed is worth.

    python tests/bench/bench_train.py --dataset rooms --size 120 160 --backbone resnet18_half --json

Real steps with their data first (how long they wait for it), then the same step on one batch that
stays in memory with options on and off. The settings of the system are options too. The dataset
must be prepared.
"""

import argparse
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mtlcli.data.batches import Share, TrainingStream, training_batches
from mtlcli.data.loading import stack
from mtlcli.data.reader import Reader
from mtlcli.home import datasets_dir
from mtlcli.ops.devices import autocast, numerics, pick_device
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.runs.table import markdown
from mtlcli.scoring.trial import take_time
from mtlcli.systems import _settings as settings
from mtlcli.tasks import named
from mtlcli.training.clock import GIGABYTE, Clock
from mtlcli.training.setup import make_state, prepare_network
from mtlcli.training.state import State

WARM_UP = 2  # steps that are not counted
LAYOUTS = {True: torch.channels_last, False: torch.contiguous_format}
RECORDED = ("dataset", "tasks", "system", "backbone", "settings", "size", "batch_size")


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


def bench(
    config: RunConfig, *, iterations: int, workers: int, repeats: int, compiled: bool, device: str
) -> dict[str, Any]:
    """Measure training steps with their data, and options on and off, as plain types.

    Args:
        config: of a run on a prepared dataset; without tasks, all of the dataset's.
        iterations: steps with their data, after two to warm up.
        workers: processes that prepare their batches.
        repeats: of each variant of a step.
        compiled: measure --compile too, which takes a CPU minutes; always on CUDA.
        device: auto, cpu, cuda or mps.
    """
    target = pick_device(device)
    reader = Reader(datasets_dir() / f"{config.dataset}.h5", "train", config.tasks or None)
    config = replace(
        config,
        tasks=config.tasks or tuple(reader.info.tasks),
        size=config.size or reader.info.size,
        settings=settings.complete(config.system, config.settings),
        amp=target.type == "cuda",
    )
    stream = make_stream(reader, config)
    variants = [v for v in VARIANTS if compiled or target.type == "cuda" or not v.compile]
    batch = stack([stream[position] for position in range(config.batch_size)])
    speed = waiting(stream, config, target, workers, iterations)
    steps = [
        measure_variant(v, config, reader.info, batch, target, repeats)
        for v in tqdm(variants, desc="bench", disable=None)
    ]
    plain = steps[0]["images_per_s"]
    for row in steps:
        row["ratio"] = row["images_per_s"] / plain if row["images_per_s"] and plain else None
    own = {name: config.to_json()[name] for name in RECORDED}
    return {**own, "device": str(target), "workers": workers, "training": speed, "steps": steps}


def make_stream(reader: Reader, config: RunConfig) -> TrainingStream:
    """The samples that a run is trained on."""
    assert config.size is not None
    tasks = named(config.tasks)
    stored = reader.info.size
    resolution = config.size[0] / stored[0], config.size[1] / stored[1]
    return TrainingStream(
        reader, tasks, config.size, resolution, config.seed, moments=config.moments
    )


def waiting(
    stream: TrainingStream,
    config: RunConfig,
    device: torch.device,
    workers: int,
    iterations: int,
) -> dict[str, float]:
    """What the log of a run says of its time, over so many steps."""
    dataset = stream.reader.info
    torch.manual_seed(config.seed)
    network = checkpoint.build_network(config, dataset).train()
    state = make_state(config, network, dataset, Path(), device, len(stream.reader))
    forward = prepare_network(network, config, device)
    clock = Clock(device, config.batch_size)
    share = Share(batch_size=config.batch_size)
    pin = device.type == "cuda"
    speed: dict[str, float] = {}
    with (
        numerics(device, deterministic=False),
        training_batches(stream, share, 0, WARM_UP + iterations, workers, pin) as batches,
    ):
        for number, (batch,) in enumerate(clock.count_waits(batches), start=1):
            step(state, forward, on_device(batch, device))
            if number in (WARM_UP, WARM_UP + iterations):
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                speed = clock.read(left=0)
    return speed


def on_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """A batch where the network is."""
    moved = {name: values.to(device, non_blocking=True) for name, values in batch.items()}
    if device.type == "cuda":
        moved["image"] = moved["image"].contiguous(memory_format=torch.channels_last)
    return moved


def measure_variant(
    variant: Variant,
    config: RunConfig,
    dataset: Mapping[str, Any],
    batch: Mapping[str, Tensor],
    device: torch.device,
    repeats: int,
) -> dict[str, Any]:
    """What a variant took; what this device cannot do is said in it."""
    own = variant.config(config)
    torch.manual_seed(0)
    try:
        network = checkpoint.build_network(own, dataset)
        state = make_state(own, network, dataset, Path(), device, len(batch["image"]))
        network.to(memory_format=LAYOUTS[variant.channels_last])  # type: ignore[call-overload]
        image = batch["image"].to(device, memory_format=LAYOUTS[variant.channels_last])
        moved = {name: values.to(device) for name, values in batch.items()} | {"image": image}
        forward = prepare_network(network, own, device)
        with numerics(device, deterministic=False):
            step(state, forward, moved)  # gradients and momentum take their memory
            timing = take_time(lambda: step(state, forward, moved), device, repeats)
    except RuntimeError as error:
        absent = str(error).splitlines()[0]
        return {"options": variant.name, "images_per_s": None, "peak_bytes": None, "absent": absent}
    finally:
        with suppress(AttributeError):
            torch.compiler.reset()
    rate = len(image) / (timing.ms / 1e3)
    peak = timing.extra_bytes  # by which memory grows in a step
    return {"options": variant.name, "images_per_s": rate, "peak_bytes": peak, "absent": None}


def step(state: State, forward: nn.Module, batch: Mapping[str, Tensor]) -> None:
    """One step of `mtlcli.training.loop`'s loop."""
    tasks = named(state.config.tasks)
    options = {name: state.dataset.options.get(name, {}) for name in tasks}
    state.optimizer.zero_grad(set_to_none=True)
    with autocast(state.device, bool(state.config.amp)):
        logits = forward(batch["image"])
    loss = {n: t.loss(logits[n].float(), batch[n], options[n]) for n, t in tasks.items()}
    state.scaler.scale(state.weighting(loss)).backward()
    state.scaler.step(state.optimizer)
    state.scaler.update()


def table(record: Mapping[str, Any]) -> str:
    """A sentence and one row per variant."""
    height, width = record["size"]
    speed = record["training"]
    said = (
        f"{record['dataset']} {height}x{width}, batch {record['batch_size']}, "
        f"{record['workers']} workers, {record['device']}: {speed['data_wait']:.1%} of a step of "
        f"{speed['step_s']:.3g} s is waiting for data"
    )
    head = ["training step", "images/s", "times plain", "GB more at the peak"]
    body = [
        [r["options"], figure(r["images_per_s"]), figure(r["ratio"]),
         figure(r["peak_bytes"], GIGABYTE)]
        for r in record["steps"]
    ]  # fmt: skip
    absent = [
        f"{r['options']} does not run here: {r['absent']}" for r in record["steps"] if r["absent"]
    ]
    return "\n".join([said, "", markdown(head, body), *absent])


def figure(value: float | None, unit: float = 1.0) -> str:
    """Three digits, or a dash."""
    return "-" if value is None else f"{value / unit:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="rooms")
    parser.add_argument("--system", default="demt_itsa")
    parser.add_argument("--backbone", default="hrnet18")
    parser.add_argument("--task", action="append", default=[])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--size", type=int, nargs=2)
    parser.add_argument("--iterations", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true")
    options, others = parser.parse_known_args()
    config = RunConfig(
        dataset=options.dataset,
        system=options.system,
        backbone=options.backbone,
        init="random",
        tasks=tuple(options.task),
        size=tuple(options.size) if options.size else None,
        batch_size=options.batch_size,
        settings=settings.parse(others),
    )
    record = bench(
        config,
        iterations=options.iterations,
        workers=options.workers,
        repeats=options.repeats,
        compiled=options.compile,
        device=options.device,
    )
    print(json.dumps(record, indent=1) if options.json else table(record))


if __name__ == "__main__":
    main()
