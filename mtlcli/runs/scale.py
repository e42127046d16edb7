"""A depth scale for one's own camera: depth' = factor * depth ** exponent, kept in run.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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


def read_scales(record: Mapping[str, Any] | None) -> dict[str, DepthScale]:
    """Task -> scale, as run.json says it."""
    return {task: DepthScale(**said) for task, said in (record or {}).items()}
