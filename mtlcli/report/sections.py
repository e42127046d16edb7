"""The tables of the page: scores, classes, costs, settings, and what is known of a run in words."""

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mtlcli.maps.classes import spell
from mtlcli.report.chart import Html, tag, together
from mtlcli.report.page import bar, breaking, missing, note, row, table
from mtlcli.report.paper_table import Table, best, cells
from mtlcli.runs.run import Run

SHOWN_HASH = 16  # letters
COST_COLUMNS = ("Image", "Parameters", "GFLOP", "Latency ms", "Device")


def options(run: Run) -> dict[str, str]:
    """Every option of the run, the settings of its system among them."""
    given = run.config.to_json()
    flat = {**{n: v for n, v in given.items() if n != "settings"}, **given["settings"]}
    return {name.replace("_", " "): words(value) for name, value in flat.items()}


def words(value: Any) -> str:
    """A value as one reads it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def provenance(run: Run) -> dict[str, str]:
    """Where a run comes from; what is not known is left out."""
    record, data, init = run.record, run.dataset, run.record.init or {}
    known = {
        "folder": run.folder,
        "scores of": run.results.summary if run.results else None,
        "imported from": record.imported_from,
        "command": None if record.command is None else "mtl " + shlex.join(record.command),
        "recipe": recipe(record.recipe),
        "started": record.started,
        "device": record.device,
        "versions": pairs(record.versions),
        "parameters": None if record.parameters is None else f"{record.parameters:,}",
        "initial weights": init.get("file") or init.get("init"),
        "their sha256": short(init.get("sha256")),
        "their licence": init.get("licence"),
        "dataset": data.title,
        "source": data.source,
        "archives": archives(data.archives),
        "geometry": data.geometry,
        "training images": record.training_images,
        "fingerprint": short(record.fingerprint),
        "labels": pairs(data.provenance),
        "terms": data.terms,
    }
    return {name: words(value) for name, value in known.items() if value not in (None, "")}


def recipe(found: Mapping[str, Any] | None) -> str | None:
    """A recipe, and what replaces its options."""
    if not found:
        return None
    changed = [f"{n} {words(pair[0])}" for n, pair in found.get("overrides", {}).items()]
    return f"{found['name']}{' with ' + ', '.join(changed) if changed else ''}"


def pairs(found: Mapping[str, Any] | None) -> str | None:
    """Names with their values."""
    return "; ".join(f"{name}: {words(value)}" for name, value in (found or {}).items()) or None


def archives(found: Sequence[Mapping[str, Any]]) -> str | None:
    """Files that the dataset was made from."""
    return "; ".join(f"{a['name']} ({short(a.get('sha256'))})" for a in found) or None


def short(digest: str | None) -> str | None:
    """The first letters of a hash are enough to tell it from others."""
    return f"{digest[:SHOWN_HASH]}..." if digest else None


def results(tables: Sequence[Table]) -> list[Html]:
    """A table of each dataset, the best of each backbone in bold, with its notes."""
    return [part for each in tables for part in result(each)]


def result(its: Table) -> list[Html]:
    """The table, what in it must not be compared, and its notes."""
    warning = [missing(its.warning)] if its.warning else []
    return [result_table(its), *warning, notes(its.notes)]


def result_table(its: Table) -> Html:
    """Runs, published rows and references."""
    head = ["Run"]
    head += [" ".join(filter(None, (c.task, c.metric, c.unit, c.arrow))) for c in its.columns]
    head += ["Δ% ↑"] if its.has_gains else []
    rows = [line for group in its.groups() for line in result_rows(its, group)]
    has_bold = any(best(its, group) for group in its.groups())
    bold = " Bold: the best of those with the same backbone." if has_bold else ""
    caption = f"{its.title}: main scores.{bold}"
    return table(head, rows, caption=caption)


def result_rows(its: Table, group: Sequence[int]) -> list[Html]:
    """The lines of one backbone."""
    bold, lines = best(its, group), []
    for i in group:
        its_row = its.rows[i]
        values = [
            tag("strong", text) if (i, column) in bold else text
            for column, text in cells(its, its_row).items()
        ]
        kind = "run" if its_row.is_run else "published"
        kind += " group" if i == group[0] else ""
        made_of = tag("small", f"{its_row.system}, {its_row.backbone}")
        role = " (reference)" if its_row.is_reference else None
        lines.append(row(together([breaking(its_row.origin), role, made_of]), values, kind=kind))
    return lines


def notes(lines: Sequence[str]) -> Html:
    """How to read a table."""
    return tag("ul", *(tag("li", line) for line in lines), class_="note") if lines else Html("")


def classes(title: str, names: Sequence[str], values: Mapping[str, Sequence[float | None]]) -> Html:
    """Intersection over union of each class, a column per run.

    Args:
        title: of the table.
        names: of the classes.
        values: run -> one value per class, None or nan where the class never occurs.
    """
    rows = [
        row(spell(name), [share(v[i]) for v in values.values()]) for i, name in enumerate(names)
    ]
    return table(["Class", *map(breaking, values)], rows, caption=f"{title}: IoU of each class")


def share(value: float | None) -> Html | str:
    """A share of 1 as number and length."""
    if value is None or not math.isfinite(value):
        return "-"
    return together([f"{value:.3f}", bar(value)])


def costs(rows: Mapping[str, Sequence[str]], remarks: Sequence[str]) -> list[Html]:
    """What one image costs each run; see `COST_COLUMNS`."""
    if not rows:
        return []
    lines = [row(breaking(name), cells) for name, cells in rows.items()]
    caption = "What one image costs the network"
    return [table(["Run", *COST_COLUMNS], lines, caption=caption), *map(note, remarks)]


def facts(columns: Mapping[str, Mapping[str, str]], caption: str) -> list[Html]:
    """What is known of each run, a column per run; lines in which they differ stand out.

    Args:
        columns: run -> name -> value.
        caption: of the table.
    """
    names = dict.fromkeys(name for known in columns.values() for name in known)
    rows = []
    for name in names:
        values = [known.get(name, "-") for known in columns.values()]
        kind = "differs" if len(set(values)) > 1 else None
        rows.append(row(name, values, kind=kind, words=len(values)))
    head = ["Name", *map(breaking, columns)]
    return [table(head, rows, caption=caption, text_columns=len(head), kind="facts")]
