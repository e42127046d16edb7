"""How many labels the batch of an iteration has, of which task and in which of its parts."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtlcli.ops.processes import average
from mtlcli.tasks._task import Task


def labels_anywhere(tasks: Mapping[str, Task], batch: Mapping[str, Tensor]) -> Tensor:
    """(T,) bool: which tasks have a label in the batch of all processes together."""
    own = torch.stack([task.is_labelled(batch[name]) for name, task in tasks.items()])
    return average(own.float()) > 0


def share_labels(
    tasks: Mapping[str, Task], parts: Sequence[Mapping[str, Tensor]], device: torch.device
) -> Tensor:
    """(parts, T): labelled pixels of each part, of all processes, over their mean; 1 where there is
    none. Losses are means over these pixels, so with these factors the mean over the parts is that
    of the whole batch.
    """
    if len(parts) == 1:
        return torch.ones(1, len(tasks), device=device)
    own = [[t.count_labelled(part[n]) for n, t in tasks.items()] for part in parts]
    counts = average(torch.tensor(own, dtype=torch.float32, device=device))
    return torch.where(counts.sum(0) > 0, counts / counts.mean(0), 1).float()
