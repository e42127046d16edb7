"""The five systems, and the two cheaper queries, on 128 real NYUD-v2 pictures, on a CPU."""

from mtlcli.experiments._experiment import SYSTEMS, Experiment
from mtlcli.runs.config import RunConfig

EXPERIMENT = Experiment(
    title="Systems on 128 NYUD-v2 pictures, half a ResNet-18 from random weights, 107x140",
    budget=RunConfig(
        dataset="nyud",
        init="random",
        backbone="resnet18_half",
        size=(107, 140),
        iterations=200,
        batch_size=4,
        optimizer="adamw",
        lr=2e-3,
    ),
    cells=SYSTEMS,
    seeds=2,
    references=("single_task", "demt"),
    limit=128,
    prepare="mtl prepare nyud --limit 128",
    pictures=128,
)
