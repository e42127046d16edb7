"""`mtl train`: the paper's recipe, from a dataset file to a run folder."""

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

import mtlcli
from mtlcli import checkpoint, lookup, settings
from mtlcli.comparison import departures
from mtlcli.config import RunConfig, datasets_dir
from mtlcli.data.batches import Share, TrainingStream, training_batches
from mtlcli.data.reader import Reader
from mtlcli.device import pick_device
from mtlcli.errors import Interrupted
from mtlcli.pretrained import start
from mtlcli.recipes._index import recipe
from mtlcli.training.clock import Clock, progress_text
from mtlcli.training.conduct import USUAL, Conduct
from mtlcli.training.failures import Divergence, explained
from mtlcli.training.folder import (
    LOG,
    cut_log,
    default_folder,
    make_run_folder,
    read_record,
    write_record,
)
from mtlcli.training.resuming import refuse_other_data, refuse_other_options
from mtlcli.training.state import LAST, State
from mtlcli.training.stopping import stopping, until

LOGGED_LINES = 1000  # at most about this many per run


def train(
    config: RunConfig,
    *,
    out: Path | None = None,
    conduct: Conduct = USUAL,
) -> Path:
    """Train a network and return its run folder.

    Args:
        config: of the run; without tasks, all of the dataset's are trained.
        out: run folder; by default weights/DATASET_BACKBONE_SYSTEM, numbered if that exists.
        conduct: where and how fast.

    Raises:
        InputError: a name, number or file that cannot be used.
        RunError: the loss is no longer finite, memory is short, or a file cannot be written.
        Interrupted: by Ctrl-C or SIGTERM, after saving.
    """
    target = pick_device(conduct.device or "auto")
    reader, config = open_training_data(config)
    torch.manual_seed(config.seed)
    backbone, beginning = start(config.backbone, config.init, quiet=conduct.quiet)
    network = checkpoint.build_network(config, describe(reader), backbone)
    folder = make_run_folder(out or default_folder(config), fixed=out is not None)
    record = make_record(config, network, reader, target) | {"init": asdict(beginning)}
    write_record(folder, record)
    state = make_state(config, network, describe(reader), folder, target)
    run(state, reader, conduct)
    return folder


def resume(folder: Path, given: Mapping[str, Any], *, conduct: Conduct = USUAL) -> Path:
    """Continue a run from its last checkpoint, or from its start if it has none yet.

    On the CPU its weights and its log become, bit for bit, those of a run never interrupted.

    Args:
        folder: of the run.
        given: fields of `RunConfig` that the user gave; they must be the run's.
        conduct: where and how fast from now on.

    Raises:
        InputError: no run began there, or with other options or other data.
        RunError, Interrupted: as for `train`.
    """
    folder = folder.parent if folder.name == LAST else folder
    record, config = read_record(folder)
    refuse_other_options(folder, config, given)
    target = pick_device(conduct.device or record["device"])
    reader, config = open_training_data(config)
    refuse_other_data(folder, record["fingerprint"], reader)
    torch.manual_seed(config.seed)
    begun = (folder / LAST).exists()
    backbone = None if begun else start(config.backbone, config.init, quiet=conduct.quiet)[0]
    network = checkpoint.build_network(config, record["dataset"], backbone)
    state = make_state(config, network, record["dataset"], folder, target)
    state.restore()
    cut_log(folder, state.iteration)
    run(state, reader, conduct)
    return folder


def open_training_data(config: RunConfig) -> tuple[Reader, RunConfig]:
    """The training split, and the config with tasks and size filled in from it."""
    lookup.load("systems", config.system)
    lookup.load("backbones", config.backbone)
    for task in config.tasks:
        lookup.load("tasks", task)
    reader = Reader(datasets_dir() / f"{config.dataset}.h5", "train", config.tasks or None)
    return reader, replace(
        config,
        tasks=config.tasks or tuple(reader.info.tasks),
        size=config.size or reader.info.size,
        settings=settings.complete(config.system, config.settings),
    )


def describe(reader: Reader) -> dict[str, Any]:
    """What a network must remember of the dataset it was trained on, as plain types."""
    return json.loads(json.dumps(asdict(reader.info)))


def make_state(
    config: RunConfig,
    network: nn.Module,
    dataset: Mapping[str, Any],
    folder: Path,
    device: torch.device,
) -> State:
    """The start of a run."""
    network = network.to(device)
    return State(
        config=config,
        dataset=dataset,
        folder=folder,
        network=network,
        optimizer=make_optimizer(network, config),
        device=device,
    )


def make_optimizer(network: nn.Module, config: RunConfig) -> torch.optim.Optimizer:
    """SGD with momentum; weight decay on everything, as DeMT does."""
    return torch.optim.SGD(
        network.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


def make_record(
    config: RunConfig, network: nn.Module, reader: Reader, device: torch.device
) -> dict[str, Any]:
    """run.json: the settings, and where they were used on what."""
    return {
        "config": config.to_json(),
        "recipe": recipe_record(config),
        "parameters": sum(p.numel() for p in network.parameters()),
        "dataset": describe(reader),
        "training_images": len(reader),
        "fingerprint": reader.fingerprint(),
        "device": str(device),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv[1:],
        "versions": {"mtl": mtlcli.__version__, "torch": torch.__version__},
    }


def recipe_record(config: RunConfig) -> dict[str, Any] | None:
    """The recipe a run was made by, and [own, recipe's] value of every option that replaces it."""
    if not config.recipe:
        return None
    return {"name": config.recipe, "overrides": departures(config, recipe(config.recipe))}


def resolution(config: RunConfig, dataset: Mapping[str, Any]) -> tuple[float, float]:
    """Working pixels per stored pixel along y and x: the run's size over the dataset's."""
    assert config.size is not None
    return config.size[0] / dataset["size"][0], config.size[1] / dataset["size"][1]


def run(state: State, reader: Reader, conduct: Conduct) -> None:
    """The training loop, from where `state` stands to the last iteration."""
    config, network, optimizer, device = state.config, state.network, state.optimizer, state.device
    assert config.size is not None
    tasks = {name: lookup.load("tasks", name).TASK for name in config.tasks}
    options = {name: state.dataset["options"].get(name, {}) for name in tasks}
    scale = resolution(config, state.dataset)
    stream = TrainingStream(reader, tasks, config.size, scale, config.seed)
    every = max(1, config.iterations // LOGGED_LINES)
    network.train()
    with (
        explained(config, state.folder),
        open(state.folder / LOG, "a") as log,
        progress_bar(state, conduct.quiet) as bar,
        stopping() as stop,
    ):
        if state.iteration == 0:
            state.save()
        batches = training_batches(
            stream,
            Share(batch_size=config.batch_size),
            state.iteration,
            config.iterations,
            conduct.workers,
            pin=device.type == "cuda",
        )
        clock = Clock(device, config.batch_size)
        divergence = Divergence(tasks, device)
        for (batch,) in clock.timed(until(stop, batches)):
            # ---- one step: from here ----
            set_learning_rate(optimizer, config, state.iteration)
            image = batch["image"].to(device, non_blocking=True)
            targets = {name: batch[name].to(device, non_blocking=True) for name in tasks}
            logits = network(image)
            losses = {n: t.loss(logits[n], targets[n], options[n]) for n, t in tasks.items()}
            total = sum(tasks[n].weight * loss for n, loss in losses.items())
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            optimizer.step()
            state.iteration += 1
            # ---- to here ----
            divergence.watch(losses, state.iteration)
            bar.update()
            if state.iteration % every == 0 or state.iteration == config.iterations:
                divergence.check(stream, config)
                line = {
                    "iteration": state.iteration,
                    "total": total.item(),
                    "loss": {name: loss.item() for name, loss in losses.items()},
                    "lr": optimizer.param_groups[0]["lr"],
                    "speed": clock.read(config.iterations - state.iteration),
                }
                print(json.dumps(line), file=log, flush=True)
                bar.set_postfix(progress_text(line), refresh=False)
            if (
                state.iteration % conduct.checkpoint_every == 0
                or state.iteration == config.iterations
            ):
                divergence.check(stream, config)
                os.fsync(log.fileno())
                state.save(conduct.keep)
        if state.iteration < config.iterations:
            divergence.check(stream, config)
            state.save(conduct.keep)
            raise Interrupted(
                f"stopped at iteration {state.iteration} of {config.iterations}, saved. "
                f"Continue: mtl train --resume {state.folder}"
            )


def progress_bar(state: State, quiet: bool) -> tqdm:
    """A bar from where the run stands, on a terminal."""
    return tqdm(
        initial=state.iteration,
        total=state.config.iterations,
        desc="train",
        disable=True if quiet else None,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, config: RunConfig, iteration: int) -> None:
    """Polynomial decay per iteration: lr (1 - iteration / iterations)^0.9."""
    for group in optimizer.param_groups:
        group["lr"] = config.lr * (1 - iteration / config.iterations) ** config.power
