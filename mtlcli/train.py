"""`mtl train`: the paper's recipe, from a dataset file to a run folder."""

import json
import math
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import mtlcli
from mtlcli import checkpoint, lookup, settings
from mtlcli.comparison import departures
from mtlcli.config import RunConfig, datasets_dir, weights_dir
from mtlcli.data.batches import TrainingStream, training_batches
from mtlcli.data.reader import Reader
from mtlcli.device import pick_device
from mtlcli.errors import InputError, RunError
from mtlcli.pretrained import Start, start
from mtlcli.recipes._index import recipe

CHECKPOINT_EVERY = 500  # iterations
LOGGED_LINES = 1000  # at most about this many per run


@dataclass
class Progress:
    """What changes while a run goes on and is saved with it."""

    config: RunConfig
    dataset: Mapping[str, Any]
    folder: Path
    network: nn.Module
    optimizer: torch.optim.Optimizer
    iteration: int = 0

    def save(self) -> None:
        checkpoint.save(
            self.folder / "last.pt",
            config=self.config.to_json(),
            dataset=dict(self.dataset),
            iteration=self.iteration,
            network=self.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
            random_state=torch.get_rng_state(),
        )


def train(
    config: RunConfig,
    *,
    out: Path | None = None,
    device: str = "auto",
    workers: int = 2,
    quiet: bool = False,
) -> Path:
    """Train a network and return its run folder.

    Args:
        config: of the run; without tasks, all of the dataset's are trained.
        out: run folder; by default weights/DATASET_BACKBONE_SYSTEM, numbered if that exists.
        device: auto, cpu, cuda or mps.
        workers: processes that prepare batches; 0 for none.
        quiet: no progress bar.

    Raises:
        InputError: a name, number or file that cannot be used.
        RunError: the loss is no longer finite, or a file cannot be written.
    """
    target = pick_device(device)
    reader, config = open_training_data(config)
    torch.manual_seed(config.seed)
    backbone, beginning = start(config.backbone, config.init, quiet=quiet)
    network = checkpoint.build_network(config, describe(reader), backbone).to(target)
    folder = make_run_folder(out or default_folder(config), fixed=out is not None)
    progress = Progress(
        config=config,
        dataset=describe(reader),
        folder=folder,
        network=network,
        optimizer=make_optimizer(network, config),
    )
    write_record(progress, reader, target, beginning)
    run(progress, reader, target, workers, quiet)
    return folder


def open_training_data(config: RunConfig) -> tuple[Reader, RunConfig]:
    """The training split, and the config with tasks and size filled in from it."""
    lookup.load("systems", config.system)
    lookup.load("backbones", config.backbone)
    for task in config.tasks:
        lookup.load("tasks", task)
    reader = Reader(datasets_dir() / f"{config.dataset}.h5", "train")
    missing = [t for t in config.tasks if t not in reader.info.tasks]
    if missing:
        raise InputError(
            f"{config.dataset} has no labels for {', '.join(missing)}; "
            f"it has {', '.join(reader.info.tasks)}."
        )
    tasks = config.tasks or reader.info.tasks
    return reader, replace(
        config,
        tasks=tuple(tasks),
        size=config.size or reader.info.size,
        settings=settings.complete(config.system, config.settings),
    )


def describe(reader: Reader) -> dict[str, Any]:
    """What a network must remember of the dataset it was trained on, as plain types."""
    return json.loads(json.dumps(asdict(reader.info)))


def default_folder(config: RunConfig) -> Path:
    """weights/DATASET_BACKBONE_SYSTEM."""
    return weights_dir() / f"{config.dataset}_{config.backbone}_{config.system}"


def make_run_folder(path: Path, fixed: bool) -> Path:
    """Create an empty run folder; one that exists is never written into.

    A name the user did not choose is numbered until it is free.
    """
    if fixed and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists and is not an empty folder; choose another --out.")
    number, free = 2, path
    while not fixed and free.exists():
        free, number = path.with_name(f"{path.name}_{number}"), number + 1
    try:
        free.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot create {free}: {error.strerror}.") from error
    return free


def make_optimizer(network: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """SGD with momentum; weight decay on everything, as DeMT does."""
    return torch.optim.SGD(
        network.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def write_record(
    progress: Progress, reader: Reader, device: torch.device, beginning: Start
) -> None:
    """run.json: the settings, and where they were used on what."""
    parameters = sum(p.numel() for p in progress.network.parameters())
    record = {
        "config": progress.config.to_json(),
        "recipe": recipe_record(progress.config),
        "init": asdict(beginning),
        "parameters": parameters,
        "dataset": dict(progress.dataset),
        "training_images": len(reader),
        "device": str(device),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv[1:],
        "versions": {"mtl": mtlcli.__version__, "torch": torch.__version__},
    }
    (progress.folder / "run.json").write_text(json.dumps(record, indent=2) + "\n")


def recipe_record(config: RunConfig) -> dict[str, Any] | None:
    """The recipe a run was made by, and [own, recipe's] value of every option that replaces it."""
    if not config.recipe:
        return None
    return {"name": config.recipe, "overrides": departures(config, recipe(config.recipe))}


def resolution(config: RunConfig, dataset: Mapping[str, Any]) -> tuple[float, float]:
    """Working pixels per stored pixel along y and x: the run's size over the dataset's."""
    assert config.size is not None
    return config.size[0] / dataset["size"][0], config.size[1] / dataset["size"][1]


def run(
    progress: Progress, reader: Reader, device: torch.device, workers: int, quiet: bool
) -> None:
    """The training loop, from where `progress` stands to the last iteration."""
    config, network, optimizer = progress.config, progress.network, progress.optimizer
    assert config.size is not None
    tasks = {name: lookup.load("tasks", name).TASK for name in config.tasks}
    options = {name: progress.dataset["options"].get(name, {}) for name in tasks}
    scale = resolution(config, progress.dataset)
    stream = TrainingStream(reader, tasks, config.size, scale, config.seed)
    batches = training_batches(
        stream,
        progress.iteration,
        config.iterations,
        config.batch_size,
        workers,
        pin=device.type == "cuda",
    )
    every = max(1, config.iterations // LOGGED_LINES)
    network.train()
    with open(progress.folder / "log.jsonl", "a") as log, stopping(progress) as stop:
        bar = tqdm(
            batches,
            initial=progress.iteration,
            total=config.iterations,
            desc="train",
            disable=True if quiet else None,
        )
        for batch in bar:
            # ---- one step: from here ----
            set_learning_rate(optimizer, config, progress.iteration)
            image = batch["image"].to(device, non_blocking=True)
            targets = {name: batch[name].to(device, non_blocking=True) for name in tasks}
            logits = network(image)
            losses = {n: t.loss(logits[n], targets[n], options[n]) for n, t in tasks.items()}
            total = sum(tasks[n].weight * loss for n, loss in losses.items())
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            optimizer.step()
            progress.iteration += 1
            # ---- to here ----
            saves = progress.iteration % CHECKPOINT_EVERY == 0 or stop()
            if saves or progress.iteration % every == 0 or progress.iteration == config.iterations:
                line = read_losses(losses, total, stream, progress)
                log.write(json.dumps(line | {"lr": optimizer.param_groups[0]["lr"]}) + "\n")
                log.flush()
                bar.set_postfix(loss=f"{line['total']:.3f}", refresh=False)
            if saves:
                progress.save()
            if stop():
                raise KeyboardInterrupt
    progress.save()


def set_learning_rate(optimizer: torch.optim.Optimizer, config: RunConfig, iteration: int) -> None:
    """Polynomial decay per iteration: lr (1 - iteration / iterations)^0.9."""
    for group in optimizer.param_groups:
        group["lr"] = config.lr * (1 - iteration / config.iterations) ** config.power


def read_losses(
    losses: Mapping[str, Tensor], total: Tensor, stream: TrainingStream, progress: Progress
) -> dict[str, Any]:
    """Losses as numbers.

    Raises:
        RunError: one of them is not finite; names the task and the images of the batch.
    """
    values = {name: loss.item() for name, loss in losses.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            size, end = progress.config.batch_size, progress.iteration
            positions = range((end - 1) * size, end * size)
            ids = ", ".join(stream.reader.ids[stream.index(p)] for p in positions)
            raise RunError(
                f"The loss of {name} is {value} at iteration {end} (images {ids}). "
                f"Lower --lr (now {progress.config.lr:g}); the last good checkpoint is kept."
            )
    return {"iteration": progress.iteration, "total": total.item(), "loss": values}


@contextmanager
def stopping(progress: Progress) -> Iterator[Any]:
    """Ctrl-C and SIGTERM let the current iteration end, so that what is saved is whole."""
    asked: list[int] = []

    def remember(number: int, frame: Any) -> None:
        asked.append(number)

    previous = {s: signal.signal(s, remember) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
