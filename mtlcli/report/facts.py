"""What is known of a run, as names and words to read."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mtlcli.runs.run import Run

SHOWN_HASH = 16  # letters


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
