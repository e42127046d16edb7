"""Lambda 1, 10, 100, 200 and three steps, on rendered rooms, on a CPU.

With SGD, as in the paper: AdamW divides every gradient by its own size, and lambda with it.
"""

from dataclasses import replace

from mtlcli.experiments import rooms_systems
from mtlcli.experiments._experiment import ITSA, Experiment

PIXEL = {**ITSA, "query": "pixel"}
CELLS = {
    f"lambda {scale}": {"settings": {**PIXEL, "gradient_scale": float(scale)}}
    for scale in (1, 10, 100, 200)
} | {"lambda 100, 3 steps": {"settings": {**PIXEL, "steps": 3}}}
EXPERIMENT = Experiment(
    title="Gradient scale and steps, DeMT-ITSA on rooms, SGD",
    budget=replace(rooms_systems.EXPERIMENT.budget, optimizer="sgd", lr=2e-2),
    cells=CELLS,
    seeds=1,
    references=("lambda 1",),
    prepare="mtl prepare rooms",
    pictures=400,
)
