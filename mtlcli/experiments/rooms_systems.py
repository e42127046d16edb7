"""The five systems, and the two cheaper queries, on rendered rooms, on a CPU."""

from mtlcli.experiments._experiment import SYSTEMS, Experiment
from mtlcli.runs.config import RunConfig

EXPERIMENT = Experiment(
    title="Systems on rooms, half a ResNet-18 from random weights, 48x64",
    budget=RunConfig(
        dataset="rooms",
        init="random",
        backbone="resnet18_half",
        size=(48, 64),
        iterations=300,
        batch_size=4,
        optimizer="adamw",
        lr=2e-3,
    ),
    cells=SYSTEMS,
    seeds=3,
    references=("single_task", "demt"),
    prepare="mtl prepare rooms",
    pictures=400,
)
