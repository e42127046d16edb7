"""The network that comes with the package, for pictures before anything was trained.

It lies in weights/NAME of a checkout, and in share/mtlcli/weights/NAME of an installation.
"""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

NAME = "nyud_small"
"""Of its folder."""
CHECKPOINT = "last.pt"


def shipped() -> Path | None:
    """Its checkpoint, or None where the package was installed without it."""
    beside = Path(__file__).parents[2] / "weights" / NAME / CHECKPOINT
    return beside if beside.exists() else installed()


def installed() -> Path | None:
    """Where the installer has put it."""
    try:
        parts = files("mtlcli") or []
    except PackageNotFoundError:
        return None
    places = (Path(str(p.locate())) for p in parts if p.parts[-2:] == (NAME, CHECKPOINT))
    return next((place for place in places if place.exists()), None)
