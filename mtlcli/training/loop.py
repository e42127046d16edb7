"""`mtl train`: the paper's recipe, from a dataset file to a run folder."""

import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtlcli import lookup
from mtlcli.backbones import _backbone as backbones
from mtlcli.data.batches import Share, TrainingStream, training_batches
from mtlcli.data.meaning import require_same_labels
from mtlcli.data.reader import Reader
from mtlcli.errors import Interrupted
from mtlcli.files import typed, write_json
from mtlcli.home import datasets_dir
from mtlcli.maps._map import NO_OPTIONS
from mtlcli.ops import processes as distributed
from mtlcli.ops.devices import autocast, numerics, pick_device
from mtlcli.runs import checkpoint
from mtlcli.runs.config import AUTO, USUAL, Conduct, RunConfig, resolution
from mtlcli.runs.folder import LAST, RECORD, cut_log, default_folder, make_run_folder
from mtlcli.runs.record import make_record, mark_stopped
from mtlcli.systems import _settings as settings
from mtlcli.training.batch import find_batch
from mtlcli.training.beginning import begin, take_over
from mtlcli.training.extension import extend
from mtlcli.training.failures import Divergence, explain_failures
from mtlcli.training.labels import labels_anywhere, share_labels
from mtlcli.training.log import Log
from mtlcli.training.loggers import require_logger
from mtlcli.training.rescue import Rescue, catch_up, holding, stopping, until
from mtlcli.training.schedule import set_learning_rate
from mtlcli.training.selection import BEST, Selection, held_out, split
from mtlcli.training.setup import (
    check_network,
    check_weighting,
    clip_gradient,
    leave_to_backbone,
    make_state,
    prepare_network,
)
from mtlcli.training.state import (
    State,
    folder_of,
    read_begun,
    refuse_other_data,
    refuse_other_options,
)


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
    require_logger(conduct.logger)
    if out and distributed.restarted() and (out / RECORD).exists():
        return resume(out, {}, conduct=conduct)
    with distributed.joined(pick_device(conduct.device or "auto")) as device:
        reader, config = complete(config, device)
        begun = begin(config, reader.info, quiet=conduct.quiet)
        network, taken = begun.network, begun.taken
        if distributed.is_first():
            print(end=begun.remarks(), file=sys.stderr)
        parameters = sum(p.numel() for p in network.parameters())
        source = asdict(taken) if taken else None
        record = make_record(config, reader, str(device), parameters, begun.init, source)
        record = replace(record, logger=conduct.logger)
        place = out or default_folder(config)
        folder = distributed.by_first(lambda: make_run_folder(place, fixed=out is not None))
        with holding(folder):
            distributed.by_first(lambda: write_json(folder / RECORD, record.to_json()))
            images = len(split(len(reader), config.holdout)[0])
            state = make_state(config, network, reader.info, folder, device, images)
            run(state, reader, conduct)
    return folder


def resume(folder: Path, given: Mapping[str, Any], *, conduct: Conduct = USUAL) -> Path:
    """Continue a run from its last checkpoint, or from its start if it has none yet.

    On the CPU its weights and its log become, bit for bit, those of a run never interrupted.

    Args:
        folder: of the run.
        given: fields of `RunConfig` that the user gave; they must be the run's, but for
            `iterations`, to which it is extended (see `mtlcli.training.extension`).
        conduct: where and how fast from now on.

    Raises:
        InputError: no run began there, or with other options or other data.
        RunError, Interrupted: as for `train`.
    """
    folder = folder_of(folder)
    record = read_begun(folder)
    same = {name: value for name, value in given.items() if name != "iterations"}
    refuse_other_options(folder, record.config, same)
    conduct = replace(conduct, logger=conduct.logger or record.logger)
    require_logger(conduct.logger)
    with distributed.joined(pick_device(conduct.device or record.device or "auto")) as device:
        reader, config = complete(record.config, device)
        refuse_other_data(folder, record.fingerprint, reader)
        require_same_labels(reader.path, reader.info, record.dataset, config.tasks)
        torch.manual_seed(config.seed)
        if (folder / LAST).exists():
            network = checkpoint.build_network(config, record.dataset)
        else:
            source = (record.taken or {}).get("sha256")
            network = begin(config, record.dataset, sha256=source, quiet=conduct.quiet).network
        images = len(split(len(reader), config.holdout)[0])
        with holding(folder):
            state = make_state(config, network, record.dataset, folder, device, images)
            state.restore()
            extend(state, record, given.get("iterations"))
            distributed.by_first(lambda: cut_log(folder, state.iteration))
            run(state, reader, conduct)
    return folder


def complete(config: RunConfig, device: torch.device) -> tuple[Reader, RunConfig]:
    """The training split, and the config with all that was left to it and to the device."""
    if config.batch_size != AUTO:
        Share(batch_size=config.batch_size, parts=config.accumulate, world=distributed.world())
    lookup.load("systems", config.system)
    backbones.find(config.backbone)
    config = replace(config, amp=device.type == "cuda" if config.amp is None else config.amp)
    check_weighting(config, device)
    reader = Reader(datasets_dir() / f"{config.dataset}.h5", "train", config.tasks or None)
    split(len(reader), config.holdout)  # refuses a share that leaves nothing
    if config.val_every and not config.holdout:
        Reader(reader.path, "val", config.tasks or None)  # refuses a file without that split
    config = replace(
        config,
        tasks=config.tasks or tuple(reader.info.tasks),
        size=config.size or reader.info.size,
        settings=settings.complete(config.system, config.settings),
    )
    if config.from_run and not config.init:
        config = take_over(config, reader.info)
    config = leave_to_backbone(config)
    check_network(config, reader.info)
    if config.batch_size == AUTO:
        config = replace(config, batch_size=find_batch(config, reader, device))
    return reader, config


def run(state: State, reader: Reader, conduct: Conduct) -> None:
    """The training loop, from where `state` stands to the last iteration."""
    config, network, optimizer, device = state.config, state.network, state.optimizer, state.device
    tasks = checkpoint.tasks_of(config.tasks, state.dataset)
    options = {name: state.dataset.options.get(name, NO_OPTIONS) for name in tasks}
    scale = resolution(config, state.dataset.size)
    kept, _ = split(len(reader), config.holdout)
    stream = TrainingStream(
        reader,
        tasks,
        config.window,
        scale,
        config.seed,
        kept,
        moments=config.moments,
        zooms=config.zoom,
    )
    pictures = held_out(config, reader, tasks, scale)
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
    state.train()
    pin, left = device.type == "cuda", (state.iteration, config.iterations)
    with (
        closing(reader),
        closing(pictures.reader),
        explain_failures(state, rescue.save),
        numerics(device, config.deterministic),
        Log(state, tasks, conduct) as log,
        stopping() as asked,
        training_batches(stream, share, *left, conduct.workers, pin) as batches,
    ):
        if state.iteration == 0:
            state.save()
        catch_up(state, selection, log)
        stop = distributed.Agreement(asked, device)
        for parts in log.clock.count_waits(until(lambda: selection.is_over or stop(), batches)):
            rescue.begin()
            log.begin(state.iteration + 1)
            set_learning_rate(optimizer, config, state.iteration)
            optimizer.zero_grad(set_to_none=True)
            losses = dict.fromkeys(tasks, torch.zeros((), device=device))  # sums over the parts
            labelled = torch.zeros(len(tasks), device=device)  # shares of the parts with labels
            for part, share in zip(parts, share_labels(tasks, parts, device)):
                batch = to_device(part, device)
                with autocast(device, bool(config.amp)):
                    logits = forward(batch["image"])
                loss = {
                    n: each * t.loss(logits[n].float(), batch[n], options[n])
                    for (n, t), each in zip(tasks.items(), share)
                }
                there = labels_anywhere(tasks, batch)
                total = state.weighting(loss, there)
                state.scaler.scale(total / len(parts)).backward()
                losses = {n: losses[n] + loss[n].detach() for n in tasks}
                labelled += there * share
            clip_gradient(state)
            rescue.step()
            state.scaler.step(optimizer)
            state.scaler.update()
            if state.average:
                state.average.update(earlier=state.iteration)
            state.iteration += 1
            rescue.end()
            divergence.watch(losses, state.iteration)
            saves, selects = is_saved(state, conduct), selection.is_due(state.iteration)
            if saves or selects or log.is_due(state.iteration):
                divergence.check(stream, config)
            log.end(losses, labelled, selection.evaluate() if selects else {})
            saves |= selection.is_over
            if saves or selection.is_best:
                log.sync()
                state.save(conduct.keep if saves else 0)
            if selection.is_best:  # after last.pt, which shall know of it
                state.save(name=BEST)
        unfinished = state.iteration < config.iterations
        if selection.is_over:
            distributed.by_first(lambda: mark_stopped(state.folder, state.iteration))
            if unfinished:
                log.say(selection.farewell())
        elif unfinished:
            divergence.check(stream, config)
            log.sync()
            state.save(conduct.keep)
            raise Interrupted(
                f"stopped at iteration {state.iteration} of {config.iterations}, saved. "
                f"Continue: mtl train --resume {typed(state.folder)}"
            )


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
