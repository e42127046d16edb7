"""Every system in its published and its released form on a pretrained backbone, all of NYUD-v2's
training pictures at a quarter of the resolution, AdamW, on a CPU.
"""

from mtlcli.experiments._experiment import SYSTEMS, Experiment
from mtlcli.recipes._recipe import RELEASED
from mtlcli.runs.config import RunConfig

CELLS = {name: SYSTEMS[name] for name in ("single_task", "multi_task", "demt")} | {
    f"{system}, as released": {
        "system": system,
        "settings": {**SYSTEMS[system]["settings"], **form},
    }
    for system, form in RELEASED.items()
}
CELLS |= {
    name: {**cell, "settings": {**cell["settings"], "gradient_scope": "module"}}
    for name, cell in SYSTEMS.items()
    if cell["system"] == "demt_itsa"
}
EXPERIMENT = Experiment(
    title="Systems on NYUD-v2, EfficientNet-Lite0 from ImageNet, 107x140, AdamW",
    budget=RunConfig(
        dataset="nyud",
        backbone="timm:tf_efficientnet_lite0",
        init="pretrained",
        size=(107, 140),
        iterations=400,
        batch_size=4,
        optimizer="adamw",
        lr=1e-3,
        warmup=20,
    ),
    cells=CELLS,
    seeds=3,
    references=("single_task", "demt"),
    limit=150,
    prepare="mtl prepare nyud",
    pictures=795,
)
