"""The five systems, and the two cheaper queries, on all of NYUD-v2 at half resolution, on a GPU."""

from mtlcli.experiments._experiment import Experiment
from mtlcli.runs.config import RunConfig

SYSTEMS = ("single_task", "multi_task", "mqtransformer", "demt", "demt_itsa")
QUERIES = ("pixel", "deformable")
EXPERIMENT = Experiment(
    title="Systems on NYUD-v2, HRNet18 from random weights, 212x280",
    budget=RunConfig(
        dataset="nyud",
        init="random",
        size=(212, 280),
        iterations=4000,
        batch_size=8,
        optimizer="adamw",
        lr=1e-3,
    ),
    cells={name: {"system": name} for name in SYSTEMS}
    | {f"demt_itsa, query {query}": {"settings": {"query": query}} for query in QUERIES},
    seeds=2,
    references=("single_task", "demt"),
    prepare="mtl prepare nyud",
    pictures=795,
)
