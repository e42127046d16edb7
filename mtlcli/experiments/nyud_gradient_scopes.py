"""What lambda scales, 1 to 200, on NYUD-v2 from ImageNet's weights, on a GPU; as the same on rooms.

The paper's network but for one refinement step and the per-pixel queries, at half resolution.
"""

from mtlcli.experiments._experiment import Experiment
from mtlcli.experiments.rooms_gradient_scopes import CELLS
from mtlcli.runs.config import RunConfig

VARIED = ("gradient_scope", "gradient_scale")
EXPERIMENT = Experiment(
    title="Gradient scale and its scope, DeMT-ITSA on NYUD-v2, HRNet18 from ImageNet, 212x280, SGD",
    budget=RunConfig(dataset="nyud", size=(212, 280), iterations=4000, batch_size=8, amp=False),
    cells={
        label: {
            "settings": {n: v for n, v in cell["settings"].items() if n in VARIED}
            | {"steps": 1, "query": "pixel"}
        }
        for label, cell in CELLS.items()
    },
    seeds=3,
    references=("lambda 1",),
    prepare="mtl prepare nyud",
    pictures=795,
)
