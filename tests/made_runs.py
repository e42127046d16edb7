"""Run folders as `mtl train` and `mtl eval` leave them, but without a network, and pages read
back.
"""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from mtlcli.runs.config import RunConfig

TASKS = {"semseg": 0.5, "depth": 0.25, "normals": 12.5, "edge": 0.75}
HALF = {"semseg": 0.25, "depth": 0.5, "normals": 25.0, "edge": 0.375}


def write_run(
    folder: Path,
    results: dict[str, float] | None = TASKS,
    *,
    nasty: str = "",
    log: bool = True,
    scored: dict[str, Any] | None = None,  # changes of results.json
    file: dict[str, Any] | None = None,  # what run.json says of the dataset file
    **options: Any,
) -> Path:
    """A run folder; results=None: not scored."""
    options = {"dataset": "nyud", "system": "demt_itsa", "size": (64, 96)} | options
    tasks = tuple(results or TASKS)
    config = RunConfig(tasks=tasks, **options).to_json()
    dataset = {"name": "nyud", "title": f"NYUD {nasty}", "size": [64, 96], "palettes": {},
               "classes": {"semseg": ["wall", f"floor {nasty}", "unseen"]}}  # fmt: skip
    record = {"config": config, "dataset": dataset, "command": ["train", nasty]}
    for name_of_fact, value in (file or {}).items():
        (record if name_of_fact == "fingerprint" else dataset)[name_of_fact] = value
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record))
    if results:
        (folder / "results.json").write_text(json.dumps(scores_of(results, config, scored or {})))
    lines = [line(i) for i in range(1, 41)] if log else []
    (folder / "log.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return folder


def scores_of(
    main: dict[str, float], config: dict[str, Any], changes: dict[str, Any]
) -> dict[str, Any]:
    """What `mtl eval` writes, without single pictures."""
    scores: dict[str, dict[str, float | None]] = {name: {} for name in main}
    if "semseg" in main:
        scores["semseg"] = {"mIoU": main["semseg"], "IoU/0": 0.625, "IoU/1": 0.375, "IoU/2": None}
    if "edge" in main:
        scores["edge"] = {"odsF": main["edge"], "threshold": 0.5}
    curve = {"thresholds": [0.25, 0.5, 0.75], "recall": [0.9, 0.75, 0.0],
             "precision": [0.5, 0.75, 1.0]}  # fmt: skip
    return {"checkpoint": "last.pt", "iteration": 40, "split": "val", "images": 654, "main": main,
            "scores": scores, "config": config, "curves": {"edge": curve}} | changes  # fmt: skip


def line(iteration: int) -> dict[str, Any]:
    """A line of log.jsonl: offsets that grow from 1 to 5 pixels on the finer map."""
    pixels, outside = [1 + (iteration - 1) * 4 / 39, 2.0], [0.0, 0.25]
    return {
        "iteration": iteration,
        "total": 5 / iteration,
        "loss": {"semseg": 5 / iteration},
        "lr": 1e-3,
        "offsets": {"a.attention": {"pixels": pixels, "outside": outside}},
    }


class Reader(HTMLParser):
    """Elements with their attributes, and the rows of tables as lists of texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self.inside_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside_cell = False

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.inside_cell:
            self.rows[-1][-1] += data
