"""Lambda 1, 10, 100, 200 and three steps, on 128 real NYUD-v2 pictures, on a CPU.

With SGD, as in the paper: AdamW divides every gradient by its own size, and lambda with it.
"""

from dataclasses import replace

from mtlcli.experiments._experiment import ITSA, Experiment
from mtlcli.experiments.nyud_small_systems import BUDGET, PREPARE

CELLS = {
    f"lambda {scale}": {"settings": {**ITSA, "query": "pixel", "gradient_scale": float(scale)}}
    for scale in (1, 10, 100, 200)
} | {"lambda 100, 3 steps": {"settings": {**ITSA, "query": "pixel", "steps": 3}}}
EXPERIMENT = Experiment(
    title="Gradient scale and steps, DeMT-ITSA on 128 NYUD-v2 pictures, SGD",
    budget=replace(BUDGET, optimizer="sgd", lr=2e-2),
    cells=CELLS,
    seeds=1,
    references=("lambda 1",),
    limit=128,
    prepare=PREPARE,
)
