"""Which device the work runs on."""

import torch

from mtlcli.errors import InputError


def pick_device(name: str) -> torch.device:
    """ "auto" is the first of cuda, mps, cpu that this machine has.

    Raises:
        InputError: an unknown name, or a device this machine does not have.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, present in there.items() if present))
    if name.split(":")[0] not in there:
        raise InputError(f"--device {name}: known are auto, {', '.join(there)}.")
    if not there[name.split(":")[0]]:
        raise InputError(f"--device {name}: this machine has none; use --device auto.")
    return torch.device(name)
