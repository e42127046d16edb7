"""Multi-task dense prediction with deformable inter-task attention.

from mtlcli import load
net = load("weights/RUN/best.pt")
out = net.predict("picture.jpg")      # or a Pillow image, or an RGB uint8 array
out["depth"]                          # (H, W) metres; see mtlcli.drawing.prediction.Prediction
out.grid()                            # all maps in one Pillow image
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlcli.drawing.api import load

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`load` is imported when it is asked for, and torch with it."""
    if name == "load":
        from mtlcli.drawing.api import load

        return load
    raise AttributeError(f"module 'mtlcli' has no attribute '{name}'")
