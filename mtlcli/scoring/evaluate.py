"""`mtl eval`: score a trained network on a split of its dataset."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mtlcli.data.batches import WholePictures
from mtlcli.data.hdf5 import Info
from mtlcli.data.meaning import require_same_labels
from mtlcli.data.reader import Reader
from mtlcli.errors import InputError
from mtlcli.files import may_write, plain, save_picture
from mtlcli.home import datasets_dir
from mtlcli.ops.devices import pick_device
from mtlcli.ops.processes import is_first, joined
from mtlcli.runs import checkpoint, hub_run
from mtlcli.runs.checkpoint import Trained, tasks_of
from mtlcli.runs.comparison import Comparison, compare, read_reference, shared_tasks
from mtlcli.runs.limits import say_other_means
from mtlcli.runs.names import file_of, pin, resolve
from mtlcli.runs.results import Results, Scores, require_writable, write_results
from mtlcli.runs.run import Run
from mtlcli.runs.table import columns, metrics_table
from mtlcli.scoring.measure import Measured, Predict, Save, best_constant, measure, merge_options
from mtlcli.scoring.overrides import complete_overrides, require_known
from mtlcli.tasks._task import Task


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A network's scores beside what they are compared with."""

    results: Results
    comparison: Comparison
    tasks: Mapping[str, Task]  # by name

    @property
    def main(self) -> Scores:
        """Task -> its main score."""
        return self.results.main


def evaluate(
    run: str | os.PathLike[str],
    *,
    split: str = "val",
    limit: int | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    boundaries: Mapping[str, Any] | None = None,
    save_predictions: str | os.PathLike[str] | None = None,
    reference: str | os.PathLike[str] | None = None,
    constant: bool = False,
    device: str = "auto",
    workers: int = 1,
    quiet: bool = False,
) -> Scored:
    """Score the network of a run on its dataset and write results.json beside it, or
    results_first3.json if there is one already of more pictures than a limit of 3.

    from mtlcli import evaluate
    scored = evaluate("nyud_small", limit=10)
    scored.main["depth"], scored.results.scores["depth"]  # the main score, and all

    Args:
        run: its name, its folder, a checkpoint, or what `mtlcli.train` returned.
        split: of the dataset file.
        limit: only the first so many pictures.
        overrides: task -> options of its metric that replace the dataset's, for example
            {"edge": {"protocol": "mti"}}.
        boundaries: the same options of every task whose map is one of boundaries.
        save_predictions: folder for TASK/ID.png of every prediction.
        reference: run to compare with, instead of the published one that its recipe names.
        constant: also score the best constant prediction, on the same pictures.
        device: auto, cpu, cuda or mps.
        workers: processes that read pictures.
        quiet: no progress bar.

    Raises:
        InputError: the checkpoint or the dataset cannot be used, or a prediction would replace a
            file that mtl did not write.
        RunError: results.json cannot be written.
    """
    if limit is not None and limit < 1:
        raise InputError(f"A limit of {limit} pictures leaves none to score.")
    other = read_reference(resolve(Path(reference), "--reference")) if reference else None
    path, kept = pin(Path(run)), Path(save_predictions) if save_predictions else None
    require_writable(path)
    with joined(pick_device(device)) as target:
        trained = checkpoint.load(path, target)
        if trained.inside:
            scaled = ", ".join(trained.inside)
            raise InputError(f"{path} scales its {scaled} for a camera: score the run it is from.")
        tasks = tasks_of(trained.config.tasks, trained.dataset)  # not scaled: as it was trained
        reader = Reader(datasets_dir() / f"{trained.config.dataset}.h5", split)
        require_same_labels(reader.path, reader.info, trained.dataset, tasks)
        scale = trained.resolution(reader.info)
        chosen, moments = range(len(reader))[:limit], trained.config.moments
        pictures = WholePictures(reader, tasks, scale, chosen, trained.size, moments=moments)
        said = complete_overrides(overrides or {}, boundaries or {}, tasks, trained.dataset.kinds)
        options = merge_options(trained.dataset.options, said, tasks)
        require_known("--edge-ids", options, reader.ids)
        if other and not shared_tasks(dict.fromkeys(tasks, 1.0), other.main):
            raise InputError(f"--reference {reference}: it has no score of {', '.join(tasks)}.")
        if kept:
            require_room(kept, tasks, reader.ids[:limit])

        def score(predict: Predict, save: Save | None = None) -> Measured:
            return measure(predict, pictures, tasks, options, workers, quiet, save)

        saver = partial(save_maps, kept, tasks, trained.dataset) if kept else None
        training = Reader(reader.path, "train", tuple(tasks)) if constant else None
        constants = best_constant(training, tasks) if training else None
        with torch.inference_mode():
            measured = score(lambda image: trained.network(image.to(target)), saver)
            floor = score(constants) if constants else None
        writes = is_first()
    results = make_results(trained, reader, measured, floor, limit)
    scored = add_comparison(results, trained, other)
    if writes:
        write_results(trained.path, len(pictures) if limit else None, scored.results)
    return scored


def require_room(folder: Path, tasks: Iterable[str], idents: Iterable[str]) -> None:
    """Refuse to write predictions over what mtl did not write.

    Raises:
        InputError: names the first such file, or what is no folder to write into.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f"--save-predictions {folder}: cannot be written ({error.strerror or error})."
        ) from error
    paths = (prediction_path(folder, task, ident) for ident in idents for task in tasks)
    taken = next((path for path in paths if not may_write(path)), None)
    if taken:
        raise InputError(
            f"--save-predictions {folder}: {taken} exists, and mtl did not write it; choose "
            "another folder."
        )


def prediction_path(folder: Path, task: str, ident: str) -> Path:
    """Where the prediction of a picture goes."""
    return folder / task / f"{ident}.png"


def save_maps(
    folder: Path,
    tasks: Mapping[str, Task],
    dataset: Info,
    ident: str,
    logits: Mapping[str, Tensor],
) -> None:
    """Write FOLDER/TASK/ID.png for every task, pixels as its map encodes them."""
    for name, task in tasks.items():
        values = task.decode(logits[name])[0].cpu().numpy()
        pixels = task.map.encode(values, dataset.drawing(name))
        path = prediction_path(folder, name, ident)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_picture(Image.fromarray(pixels), path)


def make_results(
    trained: Trained, reader: Reader, measured: Measured, floor: Measured | None, limit: int | None
) -> Results:
    """The scores, what they are scores of, and what `mtl report` draws.

    Args:
        trained: the network.
        reader: of the split.
        measured: of the network.
        floor: of the best constant prediction, if that was scored too.
        limit: of pictures.
    """
    return Results(
        checkpoint=file_of(trained.path).name,
        hub=hub_run.name_of(file_of(trained.path).parent),
        iteration=trained.iteration,
        config=trained.config,
        split=reader.split,
        fingerprint=reader.fingerprint(),
        images=len(measured.pictures),
        options=plain(measured.options),
        provenance=reader.info.provenance,
        scores=measured.scores(),
        main=measured.main_scores(),
        curves=measured.curves(),
        pictures=plain(measured.per_picture()),
        limit=limit,
        constant=floor.main_scores() if floor else None,
    )


def add_comparison(results: Results, trained: Trained, other: Run | None) -> Scored:
    """The results with what was published about their run, and with another one's if given."""
    directions = {name: task.higher_is_better for name, task in trained.tasks.items()}
    folder = file_of(trained.path).parent
    run = Run(name=str(folder), folder=folder, record=trained.record, results=results)
    comparison = compare(run, directions, other)
    whole = replace(results, comparison=plain(comparison.to_json()))
    return Scored(results=whole, comparison=comparison, tasks=trained.tasks)


def comparison_table(path: Path, scored: Scored) -> str:
    """The network's row with its init, published and reference rows below it, and notes."""
    results, comparison = scored.results, scored.comparison
    own = f"{path} (trained from {results.config.beginning})"
    rows: dict[str, Scores] = {own: results.main}
    if results.constant is not None:
        rows["best constant"] = results.constant
    table = results_table(rows | comparison.rows(), scored.tasks, comparison.gains(own))
    part = [f"Only the first {results.images} pictures of {results.split}."]
    notes = [
        *(part if results.limit else []),
        *say_other_means(results, scored.tasks),
        *comparison.notes(),
    ]
    return "\n".join([table, *notes])


def results_table(
    results: Mapping[str, Mapping[str, float]],
    tasks: Mapping[str, Task],
    gains: Mapping[str, float | None] | None = None,
) -> str:
    """One row per system, one column per task: `title metric (direction)`, and Delta% if given."""
    return metrics_table(columns(tasks), results, gains)
