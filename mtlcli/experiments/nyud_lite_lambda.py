"""Lambda 1 to 200, what it scales, and refinement steps of DeMT-ITSA; as nyud_lite_sgd."""

from dataclasses import replace

from mtlcli.experiments import nyud_lite_sgd as sgd
from mtlcli.experiments.rooms_gradient_scopes import CELLS, PIXEL

STEPS = {
    f"offsets, lambda 100, {steps} steps": {"settings": {**PIXEL, "steps": steps}}
    for steps in (2, 3)
}
EXPERIMENT = replace(
    sgd.EXPERIMENT,
    title="Lambda and steps of DeMT-ITSA on NYUD-v2, EfficientNet-Lite0 from ImageNet, SGD",
    cells=CELLS | STEPS,
    references=("lambda 1",),
)
