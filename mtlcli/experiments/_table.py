"""The table of an experiment, from its record alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from mtlcli import tasks as known_tasks
from mtlcli.errors import InputError
from mtlcli.runs.comparison import gain
from mtlcli.runs.table import columns, markdown, mean_scores, spread, spread_gain
from mtlcli.tasks._task import Task

Runs = Mapping[str, Sequence[Mapping[str, Any]]]  # label -> its runs


def table(record: Mapping[str, Any]) -> str:
    """One row per cell: scores as mean ± deviation, gains, and costs where they were measured.

    Args:
        record: see `mtlcli.experiments._grid.collect`; `costs` is optional.
    """
    cells: dict[str, list[Mapping[str, Any]]] = {}
    for run in record["runs"]:
        cells.setdefault(run["cell"], []).append(run)
    if not cells:
        return f"{record['experiment']}: no run is finished yet."
    tasks = known_tasks.named(next(iter(cells.values()))[0]["main"])
    references = [name for name in record["references"] if name in cells]
    costs = record.get("costs", {})
    head = ["", "seeds", *(heading for heading, _ in columns(tasks).values())]
    head += [f"Δ% vs {name} ↑" for name in references]
    head += ["M params", "GFLOP", "s/iteration"] if costs else []
    rows = []
    for label, runs in cells.items():
        row = [label, str(len(runs))]
        row += [spread([r["main"][n] for r in runs], task.unit) for n, task in tasks.items()]
        row += [spread_gain(gains(runs, cells[name], tasks)) for name in references]
        row += cost_cells(costs.get(label)) if costs else []
        rows.append(row)
    return markdown(head, rows)


def gains(
    runs: Sequence[Mapping[str, Any]],
    reference: Sequence[Mapping[str, Any]],
    tasks: Mapping[str, Task],
) -> list[float]:
    """Delta% of every run against the reference's mean; none where the reference scores zero."""
    against = mean_scores([run["main"] for run in reference])
    better = {name: task.higher_is_better for name, task in tasks.items()}
    try:
        return [gain(run["main"], against, better) for run in runs]
    except InputError:
        return []


def cost_cells(cost: Mapping[str, Any] | None) -> list[str]:
    """Parameters, operations of one image, and time of one training iteration."""
    if cost is None:
        return ["-", "-", "-"]
    flop = f"{cost['flops'] / 1e9:.2f}"
    return [f"{cost['params'] / 1e6:.2f}", flop, f"{cost['seconds_per_iteration']:.3f}"]
