"""The same as nyud_lite_adamw with the paper's optimiser, under which lambda works."""

from dataclasses import replace

from mtlcli.experiments import nyud_lite_adamw as adamw

EXPERIMENT = replace(
    adamw.EXPERIMENT,
    title="Systems on NYUD-v2, EfficientNet-Lite0 from ImageNet, 107x140, SGD",
    budget=replace(adamw.EXPERIMENT.budget, optimizer="sgd", lr=1e-2),
)
