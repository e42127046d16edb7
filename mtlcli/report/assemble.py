"""`mtl report`: runs on one page, or their scores in the layout of the paper's tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mtlcli.errors import InputError, MtlError, RunError
from mtlcli.files import MARK, plain, replacing, require_ours
from mtlcli.ops.devices import pick_device
from mtlcli.report.chart import Html, tag
from mtlcli.report.figures import Curve, offsets, precision_recall, total_losses, training
from mtlcli.report.gallery import Example, examples, lay_out
from mtlcli.report.page import Section, charts, missing, note, page, tables
from mtlcli.report.paper_table import Table, as_latex, as_markdown
from mtlcli.report.sections import classes, costs, facts, options, provenance, results
from mtlcli.report.standings import standings
from mtlcli.runs import checkpoint
from mtlcli.runs.run import Run, read_runs
from mtlcli.scoring.cost import Cost, add_latency, count_cost

FORMS: Mapping[str, Callable[[Table], str]] = {"markdown": as_markdown, "latex": as_latex}
REMARKS = {"html": "", "markdown": f"\n\n<!-- {MARK} -->\n", "latex": f"\n% {MARK}\n"}
RANKED = (
    "Prediction above, truth below. Best, median and worst by the mean rank over the tasks, of the "
    "scores that each picture has alone."
)
LATENCY = (
    "Operations are those of `mtl bench model`: 2 per multiply-add, softmax and sampling included. "
    "Latency: one image, median of up to 5 passes; `mtl bench model --slow` times what takes a CPU "
    "long."
)


@dataclass(kw_only=True)
class Report:
    """What was found of the runs."""

    runs: Sequence[Run]
    tables: Sequence[Table]
    examples: dict[str, list[Example]] = field(default_factory=dict)  # by run
    costs: dict[str, Cost] = field(default_factory=dict)
    lacks: list[str] = field(default_factory=list)  # what is not there, and how to get it

    def to_json(self) -> dict[str, Any]:
        """Plain types only: the tables, and what is not there."""
        rows = [
            {"dataset": t.title, "run": r.origin, "scores": plain(r.scores), "gain": r.gain}
            for t in self.tables
            for r in t.rows
        ]
        return {
            "runs": [str(r.folder) for r in self.runs],
            "rows": rows,
            "warnings": [t.warning for t in self.tables if t.warning],
            "lacks": self.lacks,
        }


def gather(paths: Sequence[Path], *, reference: Path | None = None) -> Report:
    """What the folders of runs tell; no network is built.

    Args:
        paths: run folders, files in them, or folders of run folders.
        reference: run that Delta% is against, instead of what the runs' recipes name.

    Raises:
        InputError: one of them is no run, or its files are damaged; the reference does not fit.
    """
    runs = read_runs(paths)
    against = name_apart(read_runs([reference])[0], runs) if reference else None
    lacks = [lack for run in runs for lack in run.lacks]
    return Report(runs=runs, tables=standings(runs, against), lacks=lacks)


def name_apart(run: Run, others: Sequence[Run]) -> Run:
    """A run by its folder where another has its name."""
    namesakes = (r for r in others if r.name == run.name)
    clash = any(r.folder.resolve() != run.folder.resolve() for r in namesakes)
    return replace(run, name=str(run.folder)) if clash else run


def as_text(report: Report, form: str) -> str:
    """The tables as "markdown" or "latex".

    Raises:
        InputError: no run has scores.
    """
    if not report.tables:
        raise InputError(report.lacks[0])
    return "\n\n".join(map(FORMS[form], report.tables))


def add_networks(report: Report, *, device: str = "auto", quiet: bool = False) -> None:
    """Count and time the networks of the runs, and draw pictures with them, where possible.

    What is not possible is added to what the report lacks.
    """
    target = pick_device(device)
    for run in tqdm(report.runs, desc="report", disable=True if quiet else None):
        try:
            report.costs[run.name] = count_cost(run.config, run.dataset)
            trained = checkpoint.load(run.checkpoint, target).unscaled
            report.costs[run.name] = add_latency(report.costs[run.name], trained.network)
            if run.results:
                report.examples[run.name] = examples(run, trained)
        except MtlError as error:  # one run must not cost the page of the others
            report.lacks.append(f"{run.name}: {error}")


def as_page(report: Report) -> str:
    """The page, in one file."""
    names = ", ".join(run.name for run in report.runs)
    first = report.runs[0].dataset.title
    about = f"{len(report.runs)} runs: {names}" if len(report.runs) > 1 else str(first)
    title = "Runs compared" if len(report.runs) > 1 else f"Run {names}"
    return page(title, about, sections(report))


def sections(report: Report) -> list[Section]:
    """All that is known, most telling first."""
    runs = report.runs
    logs = {run.name: run.log for run in runs}
    scales = {run.name: run.config.settings.get("gradient_scale") for run in runs}
    drawn = [n for n, log in logs.items() if log]
    several = [charts([total_losses(logs)])] if len(drawn) > 1 else []
    return [
        Section(name="results", title="Results", body=results(report.tables)),
        Section(name="pictures", title="Pictures", body=gallery(report.examples)),
        Section(name="missing", title="Not shown", body=[missing(t) for t in report.lacks]),
        Section(name="curves", title="Precision and recall", body=curves(runs)),
        Section(name="classes", title="Classes", body=class_tables(runs)),
        Section(
            name="training",
            title="Training",
            body=[*several, *(part for n in drawn for part in (tag("h3", n), training(logs[n])))],
        ),
        Section(name="offsets", title="Offsets of the attention", body=offsets(logs, scales)),
        Section(name="costs", title="Cost", body=costs(cost_rows(report.costs), [LATENCY])),
        Section(
            name="settings",
            title="Settings",
            body=facts({r.name: options(r) for r in runs}, "Options; bold where the runs differ"),
        ),
        Section(
            name="provenance",
            title="Provenance",
            body=facts({r.name: provenance(r) for r in runs}, "What was used, and where"),
        ),
    ]


def class_tables(runs: Sequence[Run]) -> list[Html]:
    """For each dataset and task with classes, the classes' scores of all runs."""
    groups: dict[tuple[str, str, tuple[str, ...]], dict[str, list[float | None]]] = {}
    titles = titles_of(runs)
    for run in runs:
        for task, scores in (run.results.scores if run.results else {}).items():
            names = tuple(run.dataset.classes.get(task, ()))
            values = [scores.get(f"IoU/{i}") for i in range(len(names))]
            if any(key.startswith("IoU/") for key in scores):
                groups.setdefault((run.config.dataset, task, names), {})[run.name] = values
    found = [
        classes(f"{dataset}, {titles[task]}", names, values)
        for (dataset, task, names), values in groups.items()
    ]
    return [tables(found)]


def curves(runs: Sequence[Run]) -> list[Html]:
    """For each dataset and task that has them, precision over recall of all runs."""
    groups: dict[tuple[str, str], list[Curve]] = {}
    titles = titles_of(runs)
    for turn, run in enumerate(runs):
        for task, curve in ((run.results.curves if run.results else None) or {}).items():
            if any(None not in point for point in zip(*curve.values())):
                its = curve_of(run, turn, task, curve)
                groups.setdefault((run.config.dataset, task), []).append(its)
    figures = []
    for (dataset, task), lines in groups.items():
        title = f"{dataset}: {titles[task]}"
        equal_f = all(line.metric == "odsF" for line in lines)
        figures.append(precision_recall(title, lines, equal_f=equal_f))
    return [charts(figures), note("The point is the threshold of the score.")] if figures else []


def titles_of(runs: Sequence[Run]) -> dict[str, str]:
    """What tasks are called."""
    return {name: task.title for run in runs for name, task in run.tasks.items()}


def curve_of(run: Run, turn: int, task: str, curve: Mapping[str, Sequence[Any]]) -> Curve:
    """The curve of a run, its score in its name."""
    assert run.results is not None
    scores, metric = run.results.scores[task], run.tasks[task].metric
    points = zip(curve["thresholds"], curve["recall"], curve["precision"])
    known = [point for point in points if None not in point]
    away = [abs(threshold - scores["threshold"]) for threshold, _, _ in known]
    return Curve(
        name=f"{run.name}, {metric} {scores[metric]:.4f}",
        metric=metric,
        turn=turn,
        recall=[recall for _, recall, _ in known],
        precision=[precision for _, _, precision in known],
        best=away.index(min(away)),
    )


def gallery(found: Mapping[str, Sequence[Example]]) -> list[Html]:
    """Pictures of every run."""
    if not found:
        return []
    parts = [note(RANKED)]
    for name, pictures in found.items():
        parts += [tag("h3", name), *(part for each in pictures for part in lay_out(each))]
    return parts


def cost_rows(found: Mapping[str, Cost]) -> dict[str, list[str]]:
    """Cells of the table of costs."""
    return {
        name: [
            f"{cost.size[0]}×{cost.size[1]}",
            f"{cost.parameters:,}",
            f"{cost.flops / 1e9:,.1f}",
            "-" if cost.latency_ms is None else f"{cost.latency_ms:,.1f}",
            cost.device or "-",
        ]
        for name, cost in found.items()
    }


def require_place(out: Path, force: bool = False) -> None:
    """See, before the work begins, that a file can go there.

    Raises:
        InputError: it is a folder, its folder is not there, or mtl did not write it.
    """
    if out.is_dir() or not out.parent.is_dir():
        what = "is a folder" if out.is_dir() else f"cannot be made: there is no folder {out.parent}"
        raise InputError(f"--out {out} {what}; name a file.")
    require_ours("--out", out, force)


def write(text: str, out: Path, form: str = "html") -> None:
    """Write a file, whole or not at all, with mtl's mark.

    Args:
        text: a page, which has it already, or tables.
        out: see `require_place`.
        form: of the text: html, markdown or latex.

    Raises:
        RunError: it cannot be written.
    """
    try:
        with replacing(out) as file:
            file.write((text + REMARKS[form]).encode(errors="backslashreplace"))
    except OSError as error:
        raise RunError(f"Cannot write {out}: {error.strerror or error}.") from error
