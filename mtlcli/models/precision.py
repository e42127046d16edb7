"""Keeps positions in float32 while the rest of a network runs in half precision."""

from contextlib import AbstractContextManager, nullcontext

import torch


def full_precision(device: torch.device) -> AbstractContextManager:
    """Inside, autocast is off: sampling positions rounded to half precision are off by pixels."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
