"""Lambda, its scope and refinement steps of DeMT-ITSA with pixel queries; as nyud_lite_sgd."""

from dataclasses import replace

from mtlcli.experiments import nyud_lite_sgd as sgd
from mtlcli.experiments._experiment import ITSA

PIXEL = {**ITSA, "query": "pixel"}
SCALES = {"offsets": (10, 100, 200), "module": (10, 100, 200)}
CELLS = {"lambda 1": {"settings": {**PIXEL, "gradient_scale": 1.0}}}
CELLS |= {
    f"{scope}, lambda {scale}": {
        "settings": {**PIXEL, "gradient_scope": scope, "gradient_scale": float(scale)}
    }
    for scope, scales in SCALES.items()
    for scale in scales
}
CELLS |= {
    f"offsets, lambda 100, {steps} steps": {"settings": {**PIXEL, "steps": steps}}
    for steps in (2, 3)
}
EXPERIMENT = replace(
    sgd.EXPERIMENT,
    title="Lambda and steps of DeMT-ITSA on NYUD-v2, EfficientNet-Lite0 from ImageNet, SGD",
    cells=CELLS,
    references=("lambda 1",),
)
