"""What lambda scales: the offsets' gradients or the whole attention's, 1 to 200, on rendered rooms.

The paper scales "the deformable ITSA module" and says that offsets stay where they are at 1, that
scores rise up to 100 and that training collapses at 200. The scope of which that is true is the
one meant. With SGD: AdamW divides every gradient by its own size, and lambda with it.
"""

from mtlcli.experiments import rooms_gradient_scale
from mtlcli.experiments._experiment import Experiment

SCOPES, SCALES = ("offsets", "module"), (10, 30, 50, 100, 200)  # of the paper's Table 4; and 1
PIXEL = rooms_gradient_scale.PIXEL
CELLS = {"lambda 1": {"settings": {**PIXEL, "gradient_scale": 1.0}}} | {
    f"{scope}, lambda {scale}": {
        "settings": {**PIXEL, "gradient_scope": scope, "gradient_scale": float(scale)}
    }
    for scope in SCOPES
    for scale in SCALES
}
EXPERIMENT = Experiment(
    title="Gradient scale and its scope, DeMT-ITSA on rooms, SGD",
    budget=rooms_gradient_scale.EXPERIMENT.budget,
    cells=CELLS,
    seeds=3,
    references=("lambda 1",),
    prepare="mtl prepare rooms",
    pictures=400,
)
