"""`mtl train --seeds N`: an experiment of one cell, and how far its runs differ.

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

from mtlcli.data.reader import Reader
from mtlcli.errors import InputError
from mtlcli.experiments._run import SPLIT, Planned, finish, finish_all
from mtlcli.files import typed, write_json
from mtlcli.ops import processes as distributed
from mtlcli.ops.devices import pick_device
from mtlcli.runs.checkpoint import tasks_of
from mtlcli.runs.config import AUTO, USUAL, Conduct, RunConfig
from mtlcli.runs.folder import RESULTS, default_folder, make_run_folder
from mtlcli.runs.record import read_record
from mtlcli.runs.table import columns, markdown, number, spread
from mtlcli.training.loop import complete
from mtlcli.training.state import refuse_other_options

SERIES = "series.json"


@dataclass(frozen=True, kw_only=True)
class Series:
    """Runs that differ in their seed alone, trained and scored."""

    folder: Path
    scores: Mapping[str, Mapping[str, float]]  # name of the run's folder -> task -> main score

    def table(self) -> str:
        """One row per run, and a last one of mean ± deviation."""
        first = read_record(self.folder / next(iter(self.scores))).dataset
        tasks = tasks_of(self.by_task, first)
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
    config: RunConfig,
    count: int,
    *,
    out: Path | None = None,
    jobs: int | None = None,
    conduct: Conduct = USUAL,
) -> Series:
    """Train from the seeds `config.seed`, `config.seed` + 1, ... and score each on val.

    Args:
        config: of all runs.
        count: of seeds.
        out: folder of the runs' folders; by default weights/DATASET_BACKBONE_SYSTEM, numbered if
            that exists.
        jobs: runs side by side, see `mtlcli.experiments._run.finish_all`.
        conduct: where and how fast.

    Raises:
        InputError, RunError: as for `mtlcli.training.loop.train` and
            `mtlcli.scoring.evaluate.evaluate`.
        Interrupted: by Ctrl-C or SIGTERM, after saving.
    """
    if config.batch_size == AUTO and jobs and jobs > 1:
        raise InputError(
            f"--batch-size auto with --jobs {jobs}: runs side by side share the memory; name a "
            "number."
        )
    if out and distributed.restarted() and is_series(out):
        return resume_seeds(out, {}, jobs=jobs, conduct=conduct)
    with distributed.joined(pick_device(conduct.device or "auto")) as device:
        reader, config = complete(config, device)
        reader.close()
        Reader(reader.path, SPLIT, config.tasks).close()  # refuses what could not be scored
        replace(config, seed=config.seed + count - 1)  # likewise
        folder = distributed.by_first(lambda: begin_series(out, config, count))
        return run_series(folder, config, count, jobs, conduct)


def resume_seeds(
    folder: Path,
    given: Mapping[str, Any],
    count: int | None = None,
    *,
    jobs: int | None = None,
    conduct: Conduct = USUAL,
) -> Series:
    """Finish the runs of a series; what is trained and scored already stays as it is.

    Args:
        folder: of the series.
        given: fields of `RunConfig` that the user gave; they must be those of the runs.
        count: of seeds; more than there were begin new runs. By default as many as there were.
        jobs, conduct: as for `train_seeds`, from now on.

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
        return run_series(folder, config, count, jobs, conduct)


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


def run_series(
    folder: Path, config: RunConfig, count: int, jobs: int | None, conduct: Conduct
) -> Series:
    """Train and score every run that is not done."""
    runs = [
        Planned(folder=folder / f"seed{seed}", config=replace(config, seed=seed))
        for seed in range(config.seed, config.seed + count)
    ]
    finish_all(runs, conduct, jobs, again=f"mtl train --resume {typed(folder)}")
    scores = {run.folder.name: finish(run, conduct) for run in runs}  # known by now
    series = Series(folder=folder, scores=scores)
    if distributed.is_first():
        write_json(folder / RESULTS, series.to_json())
    return series
