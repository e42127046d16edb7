"""The card of a packed run, README.md on the hub: what it predicts, how well, and on what terms."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mtlcli import maps, tasks
from mtlcli.runs.config import spell
from mtlcli.runs.record import Record
from mtlcli.runs.results import Results, Scores
from mtlcli.runs.table import columns, metrics_table

if TYPE_CHECKING:
    from mtlcli.tasks._task import Task

PIPELINES = {  # kind of map -> what the hub calls its prediction
    "classes": "image-segmentation",
    "foreground": "image-segmentation",
    "depth": "depth-estimation",
}
OTHER = "image-to-image"
TOLD = (  # options in the card; config.json has all
    "iterations", "batch_size", "size", "crop", "zoom", "optimizer", "lr", "backbone_lr_factor",
    "warmup", "schedule", "ema", "weighting", "recipe",
)  # fmt: skip
USE = """```sh
mtl visualize photo.jpg --checkpoint hf:USER/REPO   # or the folder of this file
mtl eval hf:USER/REPO                               # scores it; needs `mtl prepare {dataset}`
mtl train --from hf:USER/REPO --dataset MINE        # begins with its weights
```

```python
from mtlcli import load

out = load("hf:USER/REPO").predict("photo.jpg")  # {keys}
```"""


def describe(
    name: str,
    record: Record,
    results: Results | None,
    iteration: int,
    *,
    licence: str = "",
    rounded: bool = False,
) -> str:
    """The card as Markdown, with the YAML that the hub reads in front.

    Args:
        name: of the run.
        record: of it.
        results: its scores, None if it was not scored.
        iteration: of the weights.
        licence: of the weights, as the hub names it; by default the card says whose terms hold.
        rounded: whether the weights were of full precision when they were scored.
    """
    config, dataset = record.config, record.dataset
    known = tasks.named(config.tasks, dataset.kinds, dataset.options)
    listed = ", ".join(one_line(task.title).lower() for task in known.values())
    what = f"A network of {size_of(record)}`{config.system}` on `{config.backbone}`"
    parts = {
        "Use": USE.format(dataset=config.dataset, keys=", ".join(known)),
        "Scores": scores_table(name, results, known, rounded),
        "Training": training(record, iteration),
        "Data": data(record),
        "Licence": terms(record, licence),
    }
    front = metadata(name, record, results, known, licence)
    return "\n".join([
        "---", front, "---", "", f"# {one_line(name)}", "",
        f"{what} that predicts {listed} of one picture, made with mtl. It knows pictures like "
        f"those of {one_line(dataset.title or config.dataset)}, and others less.",
        *(f"\n## {title}\n\n{text}" for title, text in parts.items()), "",
    ])  # fmt: skip


def metadata(
    name: str,
    record: Record,
    results: Results | None,
    known: Mapping[str, "Task"],
    licence: str,
) -> str:
    """The YAML that the hub reads: licence, tags, data, scores."""
    from huggingface_hub import EvalResult, ModelCardData

    dataset, config = record.dataset, record.config
    pipelines = {task: pipeline(task, record) for task in known}
    title = one_line(dataset.title or config.dataset)
    main = results.main if results else {}
    found = [
        EvalResult(
            task_type=pipelines[task],
            task_name=one_line(known[task].title),
            dataset_type=config.dataset,
            dataset_name=title,
            dataset_config=task,
            dataset_split=results.split if results else None,
            metric_type=known[task].metric.lower(),
            metric_name=f"{task} {known[task].metric}",
            metric_value=value,
        )
        for task, value in main.items()
        if task in known and math.isfinite(value)
    ]
    tags = ["multi-task", "dense-prediction", *known, config.system, config.backbone]
    data = ModelCardData(
        license=licence or "other",
        license_name=None if licence else "see-card",
        library_name="mtlcli",
        pipeline_tag=next(iter(pipelines.values())),
        tags=list(dict.fromkeys([*pipelines.values(), *tags])),
        datasets=[config.dataset],
        metrics=list(dict.fromkeys(its.metric.lower() for its in known.values())),
        model_name=one_line(name),
        eval_results=found or None,
    )
    return str(data.to_yaml())


def pipeline(task: str, record: Record) -> str:
    """What the hub calls the prediction of a task."""
    kind = record.dataset.kinds.get(task) or maps.usual_kind(task)
    return PIPELINES.get(kind, OTHER)


def scores_table(
    name: str, results: Results | None, known: Mapping[str, "Task"], rounded: bool
) -> str:
    """The main scores and the pictures they are means over."""
    if not results:
        return "This checkpoint has not been scored."
    rows: dict[str, Scores] = {one_line(name).replace("|", "/"): results.main}
    if results.constant is not None:
        rows["best constant prediction"] = results.constant
    shown = {task: its for task, its in known.items() if task in results.main}
    limited = f", the first {results.images} alone" if results.limit else ""
    before = ", before the weights were rounded to half precision" if rounded else ""
    return (
        f"{metrics_table(columns(shown), rows)}\n\nOn {results.pictures_scored}{limited}, at the "
        f"resolution of the labels{before}. `results.json` has all scores."
    )


def training(record: Record, iteration: int) -> str:
    """How it was trained, in a few lines."""
    config = record.config
    images = f" on {record.training_images} pictures" if record.training_images else ""
    if images and config.holdout:
        images += f", {100 * config.holdout:.3g}% of which were held out"
    told = (f"- `{name}`: {spell(getattr(config, name))}" for name in TOLD if getattr(config, name))
    begun = f"Begun with {one_line(config.beginning)}, {iteration} iterations{images}."
    return "\n".join([begun, "", *told, "", "`config.json` has every option."])


def data(record: Record) -> str:
    """What it was trained on, whose labels they are and what their publishers ask."""
    dataset = record.dataset
    lines = [f"{dataset.title or record.config.dataset}, source `{dataset.source or 'unknown'}`."]
    for task in record.config.tasks:
        if task in dataset.provenance:
            own = " (derived, not as published)" if task in dataset.derived else ""
            lines.append(f"- {task}: {dataset.provenance[task]}{own}")
    if dataset.terms:
        lines.append(f"\nTerms: {dataset.terms}")
    return "\n".join("\n" * line.startswith("\n") + one_line(line) for line in lines)


def terms(record: Record, licence: str) -> str:
    """On what terms the weights can be used, as far as it is known."""
    own = f"These weights: {licence}." if licence else (
        "Whoever gives these weights away has named no licence for them (`mtl pack --license`)."
    )  # fmt: skip
    return "\n".join([own, "", f"- backbone: {backbone_terms(record)}", "- data: see above"])


def backbone_terms(record: Record) -> str:
    """Where the backbone's first weights are from, and their licence."""
    init: Mapping[str, Any] = record.init or {}
    if init.get("init", record.config.init) == "random":
        return "its weights began as random numbers"
    facts = [init.get("source") or init.get("init") or record.config.init]
    facts += [f"revision {init['revision']}"] if init.get("revision") else []
    licence = init.get("licence") or "licence not known"
    return one_line(f"weights {licence} ({', '.join(map(str, facts))})")


def size_of(record: Record) -> str:
    """`3.1 million parameters, `, or nothing where they were not counted."""
    return f"{record.parameters / 1e6:.1f} million parameters, " if record.parameters else ""


def one_line(text: str) -> str:
    """Text of others, fit to stand inside a line of Markdown."""
    return " ".join(str(text).split()).replace("<", "&lt;")
