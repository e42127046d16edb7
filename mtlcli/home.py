"""Where the program reads and writes: datasets/ and weights/ below $MTL_HOME."""

import os
from pathlib import Path


def home() -> Path:
    """The folder that holds datasets/ and weights/: $MTL_HOME, or the working directory."""
    return Path(os.environ.get("MTL_HOME") or ".")


def datasets_dir() -> Path:
    """Where prepared datasets lie."""
    return home() / "datasets"


def weights_dir() -> Path:
    """Where backbone weights and runs lie."""
    return home() / "weights"
