"""`mtl experiment`: a grid of systems and seeds under one budget, ending in one table.

Every run is a normal run folder, weights/experiments/NAME/CELL/seedN, so that what was finished is
never done again, what was interrupted is resumed, and any run can be evaluated and drawn alone.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from mtlcli import lookup
from mtlcli.bench.cells import costs
from mtlcli.errors import InputError, Interrupted, RunError
from mtlcli.experiments._experiment import Experiment
from mtlcli.files import plain, write_json
from mtlcli.home import datasets_dir, weights_dir
from mtlcli.ops.devices import pick_device
from mtlcli.runs.folder import LAST, RECORD, RESULTS
from mtlcli.runs.run import Run as Folder
from mtlcli.scoring.evaluate import evaluate
from mtlcli.training.conduct import Conduct
from mtlcli.training.loop import resume, train

SUMMARY = "experiment.json"
COSTS = "costs.json"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One cell with one seed."""

    experiment: str
    label: str
    seed: int

    @property
    def folder(self) -> Path:
        """Of the run."""
        cell = self.label.replace(", ", "_").replace(" ", "_")
        return folder_of(self.experiment) / cell / f"seed{self.seed}"

    @property
    def done(self) -> bool:
        """Whether it is trained and scored."""
        return (self.folder / RESULTS).exists()


def load(name: str) -> Experiment:
    """The experiment of a name.

    Raises:
        InputError: there is none.
    """
    return lookup.load("experiments", name).EXPERIMENT


def runs(name: str, labels: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[Run]:
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
        Run(experiment=name, label=label, seed=seed)
        for seed in seeds or range(experiment.seeds)
        for label in labels or experiment.cells
    ]


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
        jobs: runs side by side; by default one per GPU, or one on the CPU.
        device: auto, cpu, cuda or mps.
        quiet: no progress bar.

    Raises:
        InputError: no such experiment or cell, or its dataset is missing.
        RunError: a run failed; what is done stays done.
    """
    experiment = load(name)
    file = datasets_dir() / f"{experiment.budget.dataset}.h5"
    if not file.exists():
        raise InputError(f"There is no {file}; make it: {experiment.prepare}.")
    open_runs = [run for run in runs(name, labels, seeds) if not run.done]
    places = devices(device, jobs)
    if len(open_runs) == 1 or len(places) == 1:
        for run in tqdm(open_runs, desc=name, disable=True if quiet else None):
            do(run, device=device, quiet=quiet)
    else:
        side_by_side(open_runs, places, quiet)
    return collect(name)


def do(run: Run, *, device: str = "auto", quiet: bool = False) -> None:
    """Train, or resume, and score one run."""
    experiment = load(run.experiment)
    how = Conduct(device=device, quiet=quiet)
    if (run.folder / RECORD).exists():
        resume(run.folder, {}, conduct=how)
    else:
        train(experiment.config(run.label, run.seed), out=run.folder, conduct=how)
    evaluate(run.folder / LAST, limit=experiment.limit, device=device, quiet=quiet)


def devices(device: str, jobs: int | None) -> list[dict[str, str]]:
    """The environment of each process that runs side by side."""
    if device in ("auto", "cuda") and torch.cuda.is_available():
        count = jobs or torch.cuda.device_count()
        gpus = torch.cuda.device_count()
        return [{"CUDA_VISIBLE_DEVICES": str(i % gpus)} for i in range(count)]
    count = jobs or 1
    threads = max(1, (os.cpu_count() or 1) // count)
    return [{"OMP_NUM_THREADS": str(threads)}] * count


def side_by_side(open_runs: Sequence[Run], places: Sequence[dict[str, str]], quiet: bool) -> None:
    """Each place takes the next run when it is free; a failure ends all."""
    free: SimpleQueue[dict[str, str]] = SimpleQueue()
    for place in places:
        free.put(place)

    def start(run: Run) -> None:
        place = free.get()
        try:
            do_elsewhere(run, place)
        finally:
            free.put(place)

    with ThreadPoolExecutor(len(places)) as pool:
        waiting = pool.map(start, open_runs)
        try:
            for _ in tqdm(waiting, total=len(open_runs), disable=True if quiet else None):
                pass
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def do_elsewhere(run: Run, place: dict[str, str]) -> None:
    """One run in a process of its own."""
    command = [sys.executable, "-m", "mtlcli", "experiment", run.experiment, "--cell", run.label]
    command += ["--seed", str(run.seed), "--quiet", "--json"]
    ended = subprocess.run(
        command,
        env=os.environ | place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if ended.returncode == 130:
        raise Interrupted("The experiment was interrupted; the same command goes on.")
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        raise RunError(f"{run.label}, seed {run.seed}, failed: {said[-1]}")


def collect(name: str) -> dict[str, Any]:
    """All finished runs of an experiment, with their options and scores, as plain types.

    Also written to weights/experiments/NAME/experiment.json.
    """
    experiment = load(name)
    record = {
        "experiment": name,
        "title": experiment.title,
        "references": list(experiment.references),
        "runs": [record_of(run) for run in found(name)],
    }
    folder = folder_of(name)
    if (folder / COSTS).exists():
        record["costs"] = json.loads((folder / COSTS).read_text())
    if record["runs"]:
        write_json(folder / SUMMARY, record)
    return record


def measure_costs(name: str, device: str) -> None:
    """Parameters, operations and time of every cell, into weights/experiments/NAME/costs.json."""
    experiment = load(name)
    configs = {label: experiment.config(label, 0) for label in experiment.cells}
    folder_of(name).mkdir(parents=True, exist_ok=True)
    write_json(folder_of(name) / COSTS, costs(configs, pick_device(device)))


def folder_of(name: str) -> Path:
    """Where the runs of an experiment lie."""
    return weights_dir() / "experiments" / name


def found(name: str) -> Iterator[Run]:
    """Finished runs, cell by cell."""
    for label in load(name).cells:
        cell = Run(experiment=name, label=label, seed=0).folder.parent
        seeds = sorted(int(p.name.removeprefix("seed")) for p in cell.glob("seed*"))
        runs_of_cell = (Run(experiment=name, label=label, seed=seed) for seed in seeds)
        yield from (run for run in runs_of_cell if run.done)


def record_of(run: Run) -> dict[str, Any]:
    """What the table needs of a finished run."""
    its = Folder.read(run.folder)
    assert its.results is not None
    return {
        "cell": run.label,
        "seed": run.seed,
        "config": plain(its.config.to_json()),
        "versions": its.record.versions,
        "device": its.record.device,
        "split": its.results.split,
        "images": its.results.images,
        "main": plain(its.main),
        "seconds_per_iteration": median(line["speed"]["step_s"] for line in its.log),
        "offsets": its.log[-1].get("offsets"),
    }
