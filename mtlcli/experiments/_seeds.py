"""`mtl train --seeds N`: the same run from several seeds, each scored, and how far they differ.

Layout: FOLDER/series.json (options and seeds) and FOLDER/seed0, FOLDER/seed1, ..., each a run
folder as `mtl train` makes it, with the results.json of `mtl eval`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from mtlcli import lookup
from mtlcli.errors import InputError, Interrupted
from mtlcli.files import write_json
from mtlcli.ops import processes as distributed
from mtlcli.ops.devices import pick_device
from mtlcli.runs import checkpoint
from mtlcli.runs.config import RunConfig
from mtlcli.runs.folder import LAST, RECORD, RESULTS, default_folder, make_run_folder
from mtlcli.runs.run import Run
from mtlcli.runs.spread import spread
from mtlcli.runs.table import columns, markdown, number
from mtlcli.scoring.evaluate import evaluate
from mtlcli.training.conduct import USUAL, Conduct
from mtlcli.training.loop import complete, resume, train
from mtlcli.training.resuming import refuse_other_options

SERIES = "series.json"
SPLIT = "val"


@dataclass(frozen=True, kw_only=True)
class Series:
    """Runs that differ in their seed alone, trained and scored."""

    folder: Path
    scores: Mapping[str, Mapping[str, float]]  # name of the run's folder -> task -> main score

    def table(self) -> str:
        """One row per run, and a last one of mean ± deviation."""
        tasks = {name: lookup.load("tasks", name).TASK for name in self.by_task}
        heads = columns(tasks)
        rows = [
            [run, *(number(scores[task], unit) for task, (_, unit) in heads.items())]
            for run, scores in self.scores.items()
        ]
        last = [spread(self.by_task[task], unit) for task, (_, unit) in heads.items()]
        rows.append(["mean ± deviation", *last])
        return markdown([str(self.folder), *(heading for heading, _ in heads.values())], rows)

    @property
    def by_task(self) -> dict[str, list[float]]:
        """Task -> its score in every run."""
        tasks = next(iter(self.scores.values()))
        return {task: [scores[task] for scores in self.scores.values()] for task in tasks}

    def to_json(self) -> dict[str, Any]:
        """Plain types only; None for what is not finite, or has no deviation."""
        known = {t: [v for v in values if math.isfinite(v)] for t, values in self.by_task.items()}
        return {
            "folder": str(self.folder),
            "split": SPLIT,
            "runs": {
                run: {task: v if math.isfinite(v) else None for task, v in scores.items()}
                for run, scores in self.scores.items()
            },
            "mean": {task: mean(v) if v else None for task, v in known.items()},
            "deviation": {task: stdev(v) if len(v) > 1 else None for task, v in known.items()},
        }


def train_seeds(
    config: RunConfig, count: int, *, out: Path | None = None, conduct: Conduct = USUAL
) -> Series:
    """Train from the seeds `config.seed`, `config.seed` + 1, ... and score each on val.

    Args:
        config: of all runs.
        count: of seeds.
        out: folder of the runs' folders; by default weights/DATASET_BACKBONE_SYSTEM, numbered if
            that exists.
        conduct: where and how fast.

    Raises:
        InputError, RunError: as for `mtlcli.training.loop.train` and `mtlcli.eval.evaluate`.
        Interrupted: by Ctrl-C or SIGTERM, after saving.
    """
    if out and distributed.restarted() and is_series(out):
        return resume_seeds(out, {}, conduct=conduct)
    with distributed.joined(pick_device(conduct.device or "auto")) as device:
        reader, config = complete(config, device)
        reader.close()
        folder = distributed.by_first(lambda: begin_series(out, config, count))
        return run_series(folder, config, count, conduct)


def resume_seeds(
    folder: Path, given: Mapping[str, Any], count: int | None = None, *, conduct: Conduct = USUAL
) -> Series:
    """Finish the runs of a series; what is trained and scored already stays as it is.

    Args:
        folder: of the series.
        given: fields of `RunConfig` that the user gave; they must be those of the runs.
        count: of seeds; more than there were begin new runs. By default as many as there were.
        conduct: where and how fast from now on.

    Raises:
        InputError: other options than those of the runs, or fewer seeds.
        RunError, Interrupted: as for `train_seeds`.
    """
    config, begun = read_series(folder)
    refuse_other_options(folder, config, given)
    if count is not None and count < begun:
        raise InputError(f"--resume {folder}: --seeds is {begun} there, {count} are fewer.")
    with distributed.joined(pick_device(conduct.device or "auto")):
        count = count or begun
        distributed.by_first(lambda: write_series(folder, config, count))
        return run_series(folder, config, count, conduct)


def is_series(folder: Path) -> bool:
    """Whether a folder holds the runs of several seeds."""
    return (folder / SERIES).is_file()


def begin_series(out: Path | None, config: RunConfig, count: int) -> Path:
    """Create a folder with its series.json."""
    folder = make_run_folder(out or default_folder(config), fixed=out is not None)
    write_series(folder, config, count)
    return folder


def write_series(folder: Path, config: RunConfig, count: int) -> None:
    """Write series.json, whole or not at all."""
    record = {"config": config.to_json(), "seeds": count}
    write_json(folder / SERIES, record)


def read_series(folder: Path) -> tuple[RunConfig, int]:
    """The options of all runs, with the first seed, and how many seeds there are.

    Raises:
        InputError: there is no such record, or it is not one.
    """
    path = folder / SERIES
    if not path.is_file():
        raise InputError(f"--resume {folder}: it holds no runs of --seeds (it has no {SERIES}).")
    try:
        record = json.loads(path.read_text())
        return RunConfig.from_json(record["config"]), int(record["seeds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no record of runs that this version can resume.") from error


def run_series(folder: Path, config: RunConfig, count: int, conduct: Conduct) -> Series:
    """Train and score every run that is not done."""
    scores = {}
    try:
        for seed in range(config.seed, config.seed + count):
            own = replace(config, seed=seed)
            scores[f"seed{seed}"] = finish_run(folder / f"seed{seed}", own, conduct)
    except Interrupted as stop:
        reason = str(stop).partition(" Continue:")[0]
        raise Interrupted(f"seed {seed}: {reason} Continue: mtl train --resume {folder}") from stop
    series = Series(folder=folder, scores=scores)
    if distributed.is_first():
        write_json(folder / RESULTS, series.to_json())
    return series


def finish_run(run: Path, config: RunConfig, conduct: Conduct) -> dict[str, float]:
    """Train or go on training a run unless it is finished, score it unless it is scored."""
    begun = distributed.by_first(lambda: (run / RECORD).exists())
    finished = distributed.by_first(lambda: is_finished(run, config))
    if begun and not finished:
        resume(run, {}, conduct=conduct)
    elif not begun:
        train(config, out=run, conduct=conduct)
    known = distributed.by_first(lambda: known_scores(run)) if finished else None
    if known:
        return known
    device = conduct.device or "auto"
    results = evaluate(run / LAST, split=SPLIT, device=device, quiet=conduct.quiet)
    return dict(results.main)


def is_finished(run: Path, config: RunConfig) -> bool:
    """Whether the last checkpoint is that of the last iteration."""
    last = run / LAST
    return last.exists() and checkpoint.read(last)["iteration"] == config.iterations


def known_scores(run: Path) -> dict[str, float] | None:
    """The main scores of the last iterate if `mtl eval` has written them, without any option."""
    try:
        found = Run.read(run).usual_scores(SPLIT)
    except InputError:
        return None
    return dict(found) if found else None
