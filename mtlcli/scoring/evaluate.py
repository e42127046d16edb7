"""`mtl eval`: score a trained network on a split of its dataset."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mtlcli.data.batches import WholePictures
from mtlcli.data.reader import Reader
from mtlcli.files import plain, write_json
from mtlcli.home import datasets_dir
from mtlcli.ops.devices import pick_device
from mtlcli.ops.processes import is_first, joined
from mtlcli.runs import checkpoint
from mtlcli.runs.checkpoint import Trained
from mtlcli.runs.comparison import Comparison, compare, on_the_same_pictures, read_reference
from mtlcli.runs.config import resolution
from mtlcli.runs.results import record_file, require_writable
from mtlcli.runs.table import columns, metrics_table
from mtlcli.scoring.baseline import best_constant
from mtlcli.scoring.measure import Measured, measure, merged
from mtlcli.tasks._task import Task


@dataclass(frozen=True, kw_only=True)
class Results:
    """The scores of one network on one split."""

    scores: Mapping[str, Mapping[str, float]]  # task -> name of the score -> value
    main: Mapping[str, float]  # task -> its main score
    record: Mapping[str, Any]  # everything, as written to results.json
    comparison: Comparison  # with what was published, and with a reference
    tasks: Mapping[str, Task]  # by name


def evaluate(
    path: Path,
    *,
    split: str = "val",
    limit: int | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    save_predictions: Path | None = None,
    reference: Path | None = None,
    constant: bool = False,
    device: str = "auto",
    workers: int = 1,
    quiet: bool = False,
) -> Results:
    """Score the network of a checkpoint on its dataset and write results.json beside it, or
    results_first3.json if there is one already of more pictures than a limit of 3.

    Args:
        path: checkpoint file or run folder.
        split: of the dataset file.
        limit: only the first so many pictures.
        overrides: task -> options of its metric that replace the dataset's, for example
            {"edge": {"protocol": "mti"}}.
        save_predictions: folder for TASK/ID.png of every prediction.
        reference: run to compare with, instead of the published one that its recipe names.
        constant: also score the best constant prediction, on the same pictures.
        device: auto, cpu, cuda or mps.
        workers: processes that read pictures.
        quiet: no progress bar.

    Raises:
        InputError: the checkpoint or the dataset cannot be used.
        RunError: results.json cannot be written.
    """
    other = read_reference(reference) if reference else None
    require_writable(path)
    with joined(pick_device(device)) as target:
        trained = checkpoint.load(path, target)
        tasks = trained.tasks
        reader = Reader(datasets_dir() / f"{trained.config.dataset}.h5", split)
        scale = resolution(trained.config, trained.dataset.size)
        pictures = WholePictures(reader, tasks, scale, range(len(reader))[:limit])
        options = merged(trained.dataset.options, overrides or {}, tasks)
        saver = partial(save_maps, save_predictions, tasks) if save_predictions else None
        with torch.inference_mode():
            measured = measure(
                lambda image: trained.network(image.to(target)),
                pictures,
                tasks,
                options,
                workers,
                quiet,
                saver,
            )
            if constant:
                training = Reader(reader.path, "train", tuple(tasks))
                same = best_constant(training, tasks)
                floor = measure(same, pictures, tasks, options, workers, quiet).scores()
        writes = is_first()
    scores = measured.scores()
    main = {name: scores[name][task.metric] for name, task in tasks.items()}
    directions = {name: task.higher_is_better for name, task in tasks.items()}
    record = make_record(trained, reader, measured, scores, main)
    record["limit"] = limit
    comparison = compare(main, directions, trained.config, other)
    comparison = on_the_same_pictures(comparison, record)
    record["comparison"] = plain(comparison.to_json())
    if constant:
        record["constant"] = {name: floor[name][task.metric] for name, task in tasks.items()}
    if writes:
        write_json(record_file(trained.path, len(pictures) if limit else None), record)
    return Results(scores=scores, main=main, record=record, comparison=comparison, tasks=tasks)


def save_maps(
    folder: Path, tasks: Mapping[str, Task], ident: str, logits: Mapping[str, Tensor]
) -> None:
    """Write FOLDER/TASK/ID.png for every task, pixels as its map encodes them."""
    for name, task in tasks.items():
        pixels = task.map.encode(task.decode(logits[name])[0].cpu().numpy())
        path = folder / name / f"{ident}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def make_record(
    trained: Trained,
    reader: Reader,
    measured: Measured,
    scores: Mapping[str, Mapping[str, float]],
    main: Mapping[str, float],
) -> dict[str, Any]:
    """results.json: the scores, what they are scores of, and what `mtl report` draws.

    "curves" is {task: {"thresholds", "recall", "precision"}}, "pictures" {id: {task: main score}}.
    """
    return plain(
        {
            "checkpoint": checkpoint.file_of(trained.path).name,
            "iteration": trained.iteration,
            "config": trained.config.to_json(),
            "split": reader.split,
            "fingerprint": reader.fingerprint(),
            "images": len(measured.pictures),
            "options": measured.options,
            "provenance": trained.dataset.provenance,
            "scores": scores,
            "main": main,
            "curves": measured.curves(),
            "pictures": measured.per_picture(),
        }
    )


def comparison_table(path: Path, results: Results) -> str:
    """The network's row with its init, published and reference rows below it, and notes."""
    own = f"{path} (init {results.record['config']['init']})"
    comparison = results.comparison
    rows = {own: results.main}
    if "constant" in results.record:
        rows["best constant"] = results.record["constant"]
    rows |= comparison.rows()
    table = results_table(rows, results.tasks, comparison.gains(own))
    record = results.record
    part = [f"Only the first {record['images']} pictures of {record['split']}."]
    return "\n".join([table, *(part if record["limit"] else []), *comparison.notes()])


def results_table(
    results: Mapping[str, Mapping[str, float]],
    tasks: Mapping[str, Task],
    gains: Mapping[str, float | None] | None = None,
) -> str:
    """One row per system, one column per task: `title metric (direction)`, and Delta% if given."""
    return metrics_table(columns(tasks), results, gains)
