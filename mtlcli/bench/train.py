"""`mtl bench train`: what a training step waits for, and what each option for speed is worth."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from mtlcli import tasks as known_tasks
from mtlcli.bench import augmentation, steps
from mtlcli.bench.augmentation import Augmentation
from mtlcli.data.batches import Share, TrainingStream, stack, training_batches
from mtlcli.data.reader import Reader
from mtlcli.home import datasets_dir
from mtlcli.ops.devices import pick_device
from mtlcli.ops.precision import numerics
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.runs.table import markdown
from mtlcli.systems import _settings as settings
from mtlcli.training.clock import GIGABYTE, Clock
from mtlcli.training.setup import make_state, prepared

WARM_UP = 2  # steps that are not counted


@dataclass(frozen=True, kw_only=True)
class Bench:
    """All that was measured in one run."""

    config: RunConfig
    device: str
    workers: int
    speed: dict[str, float]  # of real training steps, see `mtlcli.training.clock`
    augmentation: Augmentation
    rows: tuple[steps.Row, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        config = self.config.to_json()
        names = ("dataset", "tasks", "system", "backbone", "settings", "size", "batch_size")
        plain = self.rows[0].images_per_s if self.rows else None
        return {
            **{name: config[name] for name in names},
            "device": self.device,
            "workers": self.workers,
            "training": self.speed,
            "augmentation": self.augmentation.to_json(),
            "steps": [
                {
                    "options": row.variant.name,
                    "images_per_s": row.images_per_s,
                    "ratio": row.images_per_s / plain if row.images_per_s and plain else None,
                    "peak_bytes": row.peak_bytes,
                    "absent": row.absent,
                }
                for row in self.rows
            ],
        }

    def table(self) -> str:
        """Two sentences and one row per variant."""
        height, width = self.config.size or (0, 0)
        speed, augment = self.speed, self.augmentation
        lines = [
            f"{self.config.dataset} {height}x{width}, batch {self.config.batch_size}, "
            f"{self.workers} workers, {self.device}: {speed['data_wait']:.1%} of a step of "
            f"{speed['step_s']:.3g} s is waiting for data",
            f"augmentation of one 425x560 sample with four labels ({augment.source}): "
            f"{augment.ours_ms:.1f} ms; step by step with cv2 and numpy {augment.stepwise_ms:.1f} "
            f"ms, {augment.ratio:.2f} times as long",
        ]
        record = self.to_json()["steps"]
        body = [
            [r["options"], _figure(r["images_per_s"]), _figure(r["ratio"]),
             _figure(r["peak_bytes"], GIGABYTE)]
            for r in record
        ]  # fmt: skip
        head = ["training step", "images/s", "times plain", "GB more at the peak"]
        absent = [f"{r['options']} does not run here: {r['absent']}" for r in record if r["absent"]]
        return "\n".join([*lines, "", markdown(head, body), *absent])


def bench(
    config: RunConfig,
    *,
    iterations: int = 12,
    workers: int = 2,
    repeats: int = 3,
    compiled: bool | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> Bench:
    """Measure training steps with their data, augmentation alone, and options on and off.

    Args:
        config: of a run on a prepared dataset; without tasks, all of the dataset's.
        iterations: steps with their data, after two to warm up.
        workers: processes that prepare their batches.
        repeats: of each variant of a step.
        compiled: measure --compile too, which takes a CPU minutes; None: on CUDA devices only.
        device: auto, cpu, cuda or mps.
        quiet: no progress bar.

    Raises:
        InputError: a name, setting, file or device that cannot be used.
    """
    target = pick_device(device)
    compiled = target.type == "cuda" if compiled is None else compiled
    reader = Reader(datasets_dir() / f"{config.dataset}.h5", "train", config.tasks or None)
    config = replace(
        config,
        tasks=config.tasks or tuple(reader.info.tasks),
        size=config.size or reader.info.size,
        settings=settings.complete(config.system, config.settings),
        amp=target.type == "cuda" if config.amp is None else config.amp,
    )
    stream = make_stream(reader, config)
    variants = [v for v in steps.VARIANTS if compiled or not v.compile]
    batch = stack([stream[position] for position in range(config.batch_size)])
    bar = tqdm(variants, desc="bench", leave=None, disable=True if quiet else None)
    return Bench(
        config=config,
        device=str(target),
        workers=workers,
        augmentation=augmentation.measure(),
        speed=waiting(stream, config, target, workers, iterations),
        rows=tuple(steps.measure(v, config, reader.info, batch, target, repeats) for v in bar),
    )


def make_stream(reader: Reader, config: RunConfig) -> TrainingStream:
    """The samples that a run is trained on."""
    assert config.size is not None
    tasks = known_tasks.named(config.tasks)
    stored = reader.info.size
    resolution = config.size[0] / stored[0], config.size[1] / stored[1]
    return TrainingStream(reader, tasks, config.size, resolution, config.seed)


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
    forward = prepared(network, config, device)
    clock = Clock(device, config.batch_size)
    share = Share(batch_size=config.batch_size)
    pin = device.type == "cuda"
    batches = training_batches(stream, share, 0, WARM_UP + iterations, workers, pin)
    speed: dict[str, float] = {}
    with numerics(device, deterministic=False):
        for number, (batch,) in enumerate(clock.timed(batches), start=1):
            steps.step(state, forward, on_device(batch, device))
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


def _figure(value: float | None, unit: float = 1.0) -> str:
    return "-" if value is None else f"{value / unit:.3g}"
