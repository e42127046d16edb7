"""A depth scale for one's own camera: depth' = factor * depth ** exponent, kept in run.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtlcli.files import require_fitting


@dataclass(frozen=True, kw_only=True)
class DepthScale:
    """Two numbers, and what they were fitted on."""

    exponent: float
    factor: float
    pictures: int
    before: float  # RMSE on these pictures, metres
    after: float

    def __str__(self) -> str:
        return (
            f"{self.factor:.3g} * depth^{self.exponent:.3g}, from {self.pictures} pictures "
            f"(RMSE {self.before:.3g} -> {self.after:.3g} m)"
        )


def read_scales(record: Mapping[str, Mapping[str, Any]] | None) -> dict[str, DepthScale]:
    """Task -> scale, as run.json says it (raises ValueError, TypeError: it is none)."""
    for said in (record or {}).values():
        require_fitting(DepthScale, said)
    return {task: DepthScale(**said) for task, said in (record or {}).items()}
