"""The shell is offered the names that an option or argument takes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mtlcli import lookup
from mtlcli.recipes._recipe import recipes
from mtlcli.runs.names import SHIPPED

RUNS = {"mine", "series/seed0", SHIPPED}
SYSTEMS, BACKBONES, TASKS, DATASETS, FORMATS, EXPERIMENTS = (
    set(lookup.names(folder))
    for folder in ("systems", "backbones", "tasks", "datasets", "formats", "experiments")
)

OFFERED = {
    "train --dataset ": {"rooms"},
    "train --system ": SYSTEMS,
    "train --backbone ": BACKBONES,
    "train --task ": TASKS,
    "train --task depth --task s": {"sal", "semseg"},
    "train --recipe ": set(recipes()),
    "train --resume ": RUNS,
    "prepare ": DATASETS,
    "systems d": {"demt", "demt_itsa"},
    "eval ": RUNS,
    "eval mine --reference s": {"series/seed0"},
    "report ": RUNS,
    "report mine --reference m": {"mine"},
    "export ": RUNS,
    "export mine --format ": FORMATS,
    "pack ": RUNS,
    "serve ": RUNS,
    "visualize --checkpoint ": RUNS,
    "visualize --compare mine --compare n": {SHIPPED},
    "visualize --dataset ": {"rooms"},
    "visualize --tasks s": {"sal", "semseg"},
    "experiment ": EXPERIMENTS,
    "import-demt x --dataset ": DATASETS,
    "bench model --system d": {"demt", "demt_itsa"},
    "bench model --dataset ": DATASETS,
    "bench model --backbone s": {"swin_s", "swin_t"},
    "bench attention --dataset r": {"rooms"},
}


@pytest.mark.parametrize("line", OFFERED)
def test_names_are_offered(
    line: str, home: Path, mtl: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in ("mine", "series/seed0"):
        (home / "weights" / run).mkdir(parents=True)
        (home / "weights" / run / "run.json").write_text("{}")
    monkeypatch.setenv("_MTL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"mtl {line}")
    monkeypatch.setenv("COMP_CWORD", str(len(f"mtl {line}x".split()) - 1))
    answer = mtl()
    assert set(answer.out.split()) == OFFERED[line], answer.err
