"""`mtl experiment`: a grid of systems and seeds under one budget, ending in one table.

Layout: weights/experiments/NAME/CELL/seedN are the runs, experiment.json and costs.json beside the
cells what the table is made from.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from mtlcli import lookup
from mtlcli.data.reader import Reader
from mtlcli.errors import InputError
from mtlcli.experiments._experiment import Experiment
from mtlcli.experiments._run import Planned, finish_all
from mtlcli.files import plain, read_json, write_json
from mtlcli.home import datasets_dir, weights_dir
from mtlcli.ops.devices import pick_device
from mtlcli.runs.config import Conduct, RunConfig
from mtlcli.runs.folder import RECORD, read_log
from mtlcli.runs.record import read_record
from mtlcli.runs.results import read_results
from mtlcli.scoring.bench_model import build, build_meta
from mtlcli.scoring.cost import WHOLE, count, parameters

ROUNDS = 3
SUMMARY, COSTS = "experiment.json", "costs.json"


def measure_cells(
    configs: Mapping[str, RunConfig], device: torch.device
) -> dict[str, dict[str, Any]]:
    """Label -> `params`, `flops` of one image forward (all kinds), `seconds_per_iteration`.

    An iteration is a forward and a backward pass of a batch; what optimiser and data take is
    left out. The cells take turns, and the median of their rounds counts.
    """
    networks, counted = {}, {}
    for label, config in configs.items():
        config, empty = build_meta(config)
        assert config.size is not None
        flops = count(empty, {}, config.size)[WHOLE].all
        counted[label] = {"params": parameters([empty]), "flops": flops}
        networks[label] = (build(config).to(device).train(), config)
    times: dict[str, list[float]] = {label: [] for label in configs}
    for round_ in range(ROUNDS + 1):
        for label, (network, config) in networks.items():
            seconds = time_step(network, config, device)
            if round_:
                times[label].append(seconds)
    return {n: c | {"seconds_per_iteration": median(times[n])} for n, c in counted.items()}


def time_step(network: nn.Module, config: RunConfig, device: torch.device) -> float:
    """Seconds of one forward and backward pass of a batch of noise."""
    assert config.size is not None
    images = torch.randn(config.batch_size, 3, *config.size, device=device)
    began = time.perf_counter()
    torch.stack([out.float().square().mean() for out in network(images).values()]).sum().backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def load(name: str) -> Experiment:
    """The experiment of a name.

    Raises:
        InputError: there is none.
    """
    return lookup.load("experiments", name).EXPERIMENT


def plan(name: str, labels: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[Planned]:
    """The runs of an experiment, seed by seed, so that an early stop leaves whole seeds.

    Raises:
        InputError: no such experiment or cell.
    """
    experiment = load(name)
    for label in labels:
        if label not in experiment.cells:
            known = "; ".join(experiment.cells)
            raise InputError(f"Experiment '{name}' has no cell '{label}'. It has: {known}.")
    return [
        plan_run(name, label, seed)
        for seed in dict.fromkeys(seeds or range(experiment.seeds))
        for label in dict.fromkeys(labels or experiment.cells)
    ]


def plan_run(name: str, label: str, seed: int) -> Planned:
    """One cell of an experiment with one seed."""
    experiment = load(name)
    return Planned(
        folder=folder_of(name) / label.replace(", ", "_").replace(" ", "_") / f"seed{seed}",
        config=experiment.config(label, seed),
        cell=label,
        limit=experiment.limit,
    )


def conduct(
    name: str,
    *,
    labels: Sequence[str] = (),
    seeds: Sequence[int] = (),
    jobs: int | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> dict[str, Any]:
    """Do all runs of an experiment that are not done yet; returns what `collect` does.

    Args:
        name: of a file in mtlcli/experiments.
        labels: only these cells.
        seeds: these instead of the experiment's.
        jobs: see `finish_all`.
        device: auto, cpu, cuda or mps.
        quiet: no progress bar.

    Raises:
        InputError: no such experiment or cell; its dataset is missing, or another; a run that
            began with other options or data.
        RunError, Interrupted: see `finish_all`.
    """
    experiment = load(name)
    file = datasets_dir() / f"{experiment.budget.dataset}.h5"
    if not file.exists():
        raise InputError(f"There is no {file}; make it: {experiment.prepare}.")
    how, planned = Conduct(device=device, quiet=quiet), plan(name, labels, seeds)
    for run in planned:
        run.require_alike()
    require_data(experiment, file, [*planned, *find_finished(name)])
    finish_all(planned, how, jobs, again=f"mtl experiment {name}")
    return collect(name)


def require_data(experiment: Experiment, file: Path, runs: Sequence[Planned]) -> None:
    """Refuse to mix the data of an experiment.

    Raises:
        InputError: the file has not its number of training pictures, or one of these runs was made
            with others.
    """
    pictures = len(Reader(file, "train"))
    if experiment.pictures not in (None, pictures):
        raise InputError(
            f"{file} has {pictures} training pictures, and this is of {experiment.pictures}: "
            f"`{experiment.prepare} --force`, or another MTL_HOME."
        )
    now: dict[tuple[str, ...], str] = {}
    for run in runs:
        if not (run.folder / RECORD).is_file():
            continue
        record = read_record(run.folder)
        tasks = record.config.tasks
        now[tasks] = now.get(tasks) or Reader(file, "train", tasks).fingerprint()
        if record.fingerprint not in (None, now[tasks]):
            raise InputError(
                f"{run.folder} was trained on other pictures or labels than are in {file} now: "
                "move it away, or prepare the dataset as it was."
            )


def collect(name: str, labels: Sequence[str] = (), seeds: Sequence[int] = ()) -> dict[str, Any]:
    """All finished runs of an experiment, with their options and scores, as plain types.

    Also written to weights/experiments/NAME/experiment.json.

    Args:
        name: of the experiment.
        labels: only these cells, and nothing is written.
        seeds: likewise.

    Raises:
        InputError: no such experiment, or a finished run that began with other options.
    """
    experiment = load(name)
    record: dict[str, Any] = {
        "experiment": name,
        "title": experiment.title,
        "references": list(experiment.references),
        "runs": [
            describe(run)
            for run in find_finished(name)
            if (not labels or run.cell in labels) and (not seeds or run.config.seed in seeds)
        ],
    }
    folder = folder_of(name)
    if (folder / COSTS).exists():
        record["costs"] = read_json(folder / COSTS)
    record = plain(record)
    if record["runs"] and not (labels or seeds):
        write_json(folder / SUMMARY, record)
    return record


def measure_costs(name: str, device: str) -> None:
    """Parameters, operations and time of every cell, into weights/experiments/NAME/costs.json."""
    experiment = load(name)
    configs = {label: experiment.config(label, 0) for label in experiment.cells}
    folder_of(name).mkdir(parents=True, exist_ok=True)
    write_json(folder_of(name) / COSTS, measure_cells(configs, pick_device(device)))


def folder_of(name: str) -> Path:
    """Where the runs of an experiment lie."""
    return weights_dir() / "experiments" / name


def find_finished(name: str) -> Iterator[Planned]:
    """Finished runs, cell by cell, of whatever seeds there are."""
    for label in load(name).cells:
        cell = plan_run(name, label, 0).folder.parent
        found = (re.fullmatch(r"seed(\d+)", path.name) for path in cell.glob("seed*"))
        for seed in sorted(int(its[1]) for its in found if its):
            run = plan_run(name, label, seed)
            if run.scores():
                run.require_alike()
                yield run


def describe(run: Planned) -> dict[str, Any]:
    """What the table needs of a finished run."""
    results, record, lines = (
        read_results(run.results),
        read_record(run.folder),
        read_log(run.folder),
    )
    steps = [line["speed"]["step_s"] for line in lines if "step_s" in line.get("speed", {})]
    return {
        "cell": run.cell,
        "seed": run.config.seed,
        "config": record.config.to_json(),
        "versions": record.versions,
        "device": record.device,
        "split": results.split,
        "images": results.images,
        "main": results.main,
        "seconds_per_iteration": median(steps) if steps else None,
        "offsets": lines[-1].get("offsets") if lines else None,
    }
