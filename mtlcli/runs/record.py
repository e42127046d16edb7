"""run.json: all that was used to make a run, from which it can be made again."""

import sys
import time
from typing import Any

import torch
from torch import nn

import mtlcli
from mtlcli.data.reader import Reader
from mtlcli.recipes._index import recipe
from mtlcli.runs.comparison import departures
from mtlcli.runs.config import RunConfig


def make_record(
    config: RunConfig, network: nn.Module, reader: Reader, device: torch.device
) -> dict[str, Any]:
    """run.json: the settings, and where they were used on what."""
    return {
        "config": config.to_json(),
        "recipe": recipe_record(config),
        "parameters": sum(p.numel() for p in network.parameters()),
        "dataset": reader.info.to_json(),
        "training_images": len(reader),
        "fingerprint": reader.fingerprint(),
        "device": str(device),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv[1:],
        "versions": {"mtl": mtlcli.__version__, "torch": torch.__version__},
    }


def recipe_record(config: RunConfig) -> dict[str, Any] | None:
    """The recipe a run was made by, and [own, recipe's] value of every option that replaces it."""
    if not config.recipe:
        return None
    return {"name": config.recipe, "overrides": departures(config, recipe(config.recipe))}
