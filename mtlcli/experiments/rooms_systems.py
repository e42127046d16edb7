"""The five systems, and the two cheaper queries, on rendered rooms, on a CPU."""

from mtlcli.config import RunConfig
from mtlcli.experiments._experiment import SYSTEMS, Experiment

EXPERIMENT = Experiment(
    title="Systems on rooms, HRNet18 from random weights, 60x80",
    budget=RunConfig(
        dataset="rooms",
        init="random",
        size=(60, 80),
        iterations=500,
        batch_size=8,
        optimizer="adamw",
        lr=2e-3,
    ),
    cells=SYSTEMS,
    seeds=3,
    references=("single_task", "demt"),
    prepare="mtl prepare rooms",
)
