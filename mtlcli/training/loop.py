"""`mtl train`: the paper's recipe, from a dataset file to a run folder."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtlcli import lookup
from mtlcli.backbones._pretrained import start
from mtlcli.data.batches import Share, TrainingStream, WholePictures, training_batches
from mtlcli.data.reader import Reader
from mtlcli.errors import Interrupted
from mtlcli.home import datasets_dir
from mtlcli.maps._map import NO_OPTIONS
from mtlcli.ops import processes as distributed
from mtlcli.ops.devices import autocast, numerics, pick_device
from mtlcli.runs import checkpoint
from mtlcli.runs.config import USUAL, Conduct, RunConfig, resolution
from mtlcli.runs.folder import LAST, RECORD, begin_run, cut_log
from mtlcli.runs.record import make_record
from mtlcli.systems import _settings as settings
from mtlcli.tasks._task import Task
from mtlcli.training.failures import Divergence, explain_failures
from mtlcli.training.log import Log, require_tensorboard
from mtlcli.training.memory import estimate
from mtlcli.training.rescue import Rescue, stopping, until
from mtlcli.training.selection import Selection, split
from mtlcli.training.setup import check_weighting, make_state, prepare_network
from mtlcli.training.state import State, read_begun, refuse_other_data, refuse_other_options


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
    if conduct.tensorboard:
        require_tensorboard()
    if out and distributed.restarted() and (out / RECORD).exists():
        return resume(out, {}, conduct=conduct)
    with distributed.joined(pick_device(conduct.device or "auto")) as device:
        reader, config = complete(config, device)
        distributed.by_first(lambda: start(config.backbone, config.init, quiet=conduct.quiet)[1])
        torch.manual_seed(config.seed)
        backbone, beginning = start(config.backbone, config.init, quiet=True)
        network = checkpoint.build_network(config, reader.info, backbone)
        parameters = sum(p.numel() for p in network.parameters())
        record = make_record(config, reader, str(device), parameters, asdict(beginning))
        folder = distributed.by_first(lambda: begin_run(out, config, record.to_json()))
        images = len(split(len(reader), config.holdout)[0])
        state = make_state(config, network, reader.info, folder, device, images)
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
    if conduct.tensorboard:
        require_tensorboard()
    folder = folder.parent if folder.name == LAST else folder
    record = read_begun(folder)
    refuse_other_options(folder, record.config, given)
    with distributed.joined(pick_device(conduct.device or record.device or "auto")) as device:
        reader, config = complete(record.config, device)
        refuse_other_data(folder, record.fingerprint, reader)
        torch.manual_seed(config.seed)
        begun = (folder / LAST).exists()
        backbone = None if begun else start(config.backbone, config.init, quiet=conduct.quiet)[0]
        network = checkpoint.build_network(config, record.dataset, backbone)
        images = len(split(len(reader), config.holdout)[0])
        state = make_state(config, network, record.dataset, folder, device, images)
        state.restore()
        distributed.by_first(lambda: cut_log(folder, state.iteration))
        run(state, reader, conduct)
    return folder


def complete(config: RunConfig, device: torch.device) -> tuple[Reader, RunConfig]:
    """The training split, and the config with all that was left to it and to the device."""
    Share(batch_size=config.batch_size, parts=config.accumulate, world=distributed.world())
    lookup.load("systems", config.system)
    lookup.load("backbones", config.backbone)
    config = replace(config, amp=device.type == "cuda" if config.amp is None else config.amp)
    check_weighting(config, device)
    reader = Reader(datasets_dir() / f"{config.dataset}.h5", "train", config.tasks or None)
    return reader, replace(
        config,
        tasks=config.tasks or tuple(reader.info.tasks),
        size=config.size or reader.info.size,
        settings=settings.complete(config.system, config.settings),
    )


def dry_run(config: RunConfig, *, device: str = "auto") -> str:
    """What memory a run needs and what fits, as text.

    Raises:
        InputError: as for `train`.
    """
    target = pick_device(device)
    reader, config = complete(config, target)
    return estimate(config, reader.info, target).text(config)


def run(state: State, reader: Reader, conduct: Conduct) -> None:
    """The training loop, from where `state` stands to the last iteration."""
    config, network, optimizer, device = state.config, state.network, state.optimizer, state.device
    tasks = checkpoint.tasks_of(config.tasks, state.dataset)
    options = {name: state.dataset.options.get(name, NO_OPTIONS) for name in tasks}
    scale = resolution(config, state.dataset.size)
    kept, held = split(len(reader), config.holdout)
    stream = TrainingStream(reader, tasks, config.window, scale, config.seed, kept)
    pictures = WholePictures(reader, tasks, scale, held, config.size or state.dataset.size)
    selection = Selection(state, pictures, tasks, options, conduct.workers)
    share = Share(
        batch_size=config.batch_size,
        parts=config.accumulate,
        rank=distributed.rank(),
        world=distributed.world(),
    )
    divergence = Divergence(tasks, device)
    rescue = Rescue(state, divergence)
    forward = prepare_network(network, config, device)
    network.train()
    pin, left = device.type == "cuda", (state.iteration, config.iterations)
    with (
        closing(reader),
        explain_failures(config, state.folder, rescue.save),
        numerics(device, config.deterministic),
        Log(state, tasks, conduct) as log,
        stopping() as asked,
        training_batches(stream, share, *left, conduct.workers, pin) as batches,
    ):
        if state.iteration == 0:
            state.save()
        stop = distributed.Agreement(asked, device)
        for parts in log.clock.count_waits(until(stop, batches)):
            rescue.begin()
            log.begin(state.iteration + 1)
            set_learning_rate(optimizer, config, state.iteration)
            optimizer.zero_grad(set_to_none=True)
            losses = dict.fromkeys(tasks, torch.zeros((), device=device))  # sums over the parts
            labelled = torch.zeros(len(tasks), device=device)  # parts in which a task has labels
            for part in parts:
                batch = to_device(part, device)
                with autocast(device, bool(config.amp)):
                    logits = forward(batch["image"])
                loss = {
                    n: t.loss(logits[n].float(), batch[n], options[n]) for n, t in tasks.items()
                }
                there = labels_anywhere(tasks, batch)
                total = state.weighting(loss, there)
                state.scaler.scale(total / len(parts)).backward()
                losses = {n: losses[n] + loss[n].detach() for n in tasks}
                labelled += there
            rescue.step()
            state.scaler.step(optimizer)
            state.scaler.update()
            state.iteration += 1
            rescue.end()
            divergence.watch(losses, state.iteration)
            saves, selects = is_saved(state, conduct), selection.is_due(state.iteration)
            if saves or selects or log.is_due(state.iteration):
                divergence.check(stream, config)
            log.end(losses, labelled, selection.evaluate() if selects else {})
            if saves:
                log.sync()
                state.save(conduct.keep)
        if state.iteration < config.iterations:
            divergence.check(stream, config)
            log.sync()
            state.save(conduct.keep)
            raise Interrupted(
                f"stopped at iteration {state.iteration} of {config.iterations}, saved. "
                f"Continue: mtl train --resume {state.folder}"
            )


def labels_anywhere(tasks: Mapping[str, Task], batch: Mapping[str, Tensor]) -> Tensor:
    """(T,) bool: which tasks have a label in the batch of all processes together."""
    own = torch.stack([task.is_labelled(batch[name]) for name, task in tasks.items()])
    return distributed.average(own.float()) > 0


def set_learning_rate(optimizer: torch.optim.Optimizer, config: RunConfig, iteration: int) -> None:
    """Polynomial decay per iteration: lr (1 - iteration / iterations)^0.9."""
    for group in optimizer.param_groups:
        group["lr"] = config.lr * (1 - iteration / config.iterations) ** config.power


def is_saved(state: State, conduct: Conduct) -> bool:
    """Whether the iteration just done gets a checkpoint."""
    return state.iteration % conduct.checkpoint_every == 0 or (
        state.iteration == state.config.iterations
    )


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """A batch where the network is; images in its memory layout."""
    moved = {name: values.to(device, non_blocking=True) for name, values in batch.items()}
    if device.type == "cuda":
        moved["image"] = moved["image"].contiguous(memory_format=torch.channels_last)
    return moved
