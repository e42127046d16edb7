"""Multi-task dense prediction with deformable inter-task attention.

from mtlcli import evaluate, load, train
run = train(dataset="rooms", backbone="resnet18_half", init="random", iterations=300)
evaluate(run).main["depth"]           # metres; see mtlcli.scoring.evaluate.Scored
net = load(run)                       # or a name or path of a run, or nothing: the default's
out = net.predict("picture.jpg")      # or a Pillow image or an array; of a list, a list
out["depth"]                          # (H, W) metres; see mtlcli.drawing.prediction.Prediction
out.grid()                            # all maps in one Pillow image
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlcli.drawing.api import load
    from mtlcli.scoring.evaluate import evaluate
    from mtlcli.training.api import train

__all__ = ["__version__", "evaluate", "load", "train"]
__version__ = "0.1.0"

PLACES = {
    "evaluate": "mtlcli.scoring.evaluate",
    "load": "mtlcli.drawing.api",
    "train": "mtlcli.training.api",
}


def __getattr__(name: str) -> Any:
    """`load`, `train` and `evaluate` are imported when they are asked for, and torch with them."""
    if name in PLACES:
        return getattr(import_module(PLACES[name]), name)
    raise AttributeError(f"module 'mtlcli' has no attribute '{name}'")
