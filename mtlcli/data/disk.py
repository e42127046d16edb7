"""Free space and small JSON files that are never left half written."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtlcli.errors import RunError


def require_space(folder: Path, needed: int) -> None:
    """Check that `needed` bytes are free on the disk of `folder`.

    Raises:
        RunError: they are not.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RunError(
            f"{folder} has {gigabytes(free)} free, {gigabytes(needed)} are needed: free some "
            "space, or use another disk (--out, --download-dir or MTL_HOME)."
        )


def gigabytes(count: float) -> str:
    """A number of bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def allocated(path: Path) -> int:
    """Bytes a file takes on the disk, holes not counted; 0 where there is none."""
    return path.stat().st_blocks * 512 if path.exists() else 0


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none or it is damaged."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a JSON file in one step."""
    draft = path.with_name(path.name + ".draft")
    draft.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
    os.replace(draft, path)
