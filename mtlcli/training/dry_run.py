"""`mtl train --dry-run`: what a run needs here and, if asked, on a card that is not here."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from mtlcli import lookup
from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError
from mtlcli.home import datasets_dir
from mtlcli.ops.devices import pick_device
from mtlcli.runs.config import AUTO, RunConfig
from mtlcli.training.forecast import Forecast, complete_by_record, forecast
from mtlcli.training.loop import complete
from mtlcli.training.memory import Need, estimate


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would take."""

    config: RunConfig  # complete
    need: Need  # on this machine
    costs: Forecast | None = None  # elsewhere

    def text(self) -> str:
        """For people."""
        here = self.need.text(self.config)
        return f"{here}\n\n{self.costs.text()}" if self.costs else here

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        names = ("parameters", "fixed", "per_image", "batch", "needed", "there", "largest")
        here = {name: getattr(self.need, name) for name in (*names, "measured")}
        return here | ({"costs": self.costs.to_json()} if self.costs else {})


def dry_run(config: RunConfig, *, device: str = "auto", memory: float | None = None) -> Plan:
    """What memory a run needs and what fits.

    Args:
        config: of the run; its dataset need not be prepared if mtl knows it by name.
        device: that it would be trained on.
        memory: gigabytes of a card that is not here; with it, hours on named cards too.

    Raises:
        InputError: as for `train`, or a memory that no card has.
    """
    if memory is not None and not 0 < memory < math.inf:
        raise InputError(f"--memory {memory:g}: say the gigabytes of a card, such as 24.")
    target = pick_device(device)
    whole, info = complete_anyhow(config, target)
    costs = None
    if memory:
        asked = replace(whole, amp=config.amp)
        costs = forecast(asked, info, (memory,), precisions=(True, False))
    return Plan(config=whole, need=estimate(whole, info, target), costs=costs)


def complete_anyhow(config: RunConfig, device: torch.device) -> tuple[RunConfig, Info]:
    """The run with all that was left to its dataset: the prepared one, else the published."""
    is_there = (datasets_dir() / f"{config.dataset}.h5").exists()
    if not is_there and config.dataset in lookup.names("datasets"):
        if config.batch_size == AUTO:
            raise InputError("--batch-size auto needs the prepared dataset: name a number.")
        config, info = complete_by_record(config)
        return replace(
            config, amp=device.type == "cuda" if config.amp is None else config.amp
        ), info
    reader, config = complete(config, device)
    return config, reader.info
