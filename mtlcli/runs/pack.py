"""`mtl pack`: a run made small enough to give away."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from mtlcli.errors import InputError, RunError
from mtlcli.runs import checkpoint
from mtlcli.runs.folder import LAST, RECORD, RESULTS
from mtlcli.runs.names import file_of

KEPT = ("config", "dataset", "iteration")  # of a checkpoint, beside the network
BESIDE = (RECORD, RESULTS)


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What `pack` wrote."""

    path: Path
    before: int  # bytes of the checkpoint
    after: int


def pack(run: Path, out: Path) -> Packed:
    """Write a run folder with what predicting needs: weights in half precision, no optimiser.

    Every command that takes a run takes it, except `mtl train --resume`.

    Args:
        run: checkpoint or run folder.
        out: new run folder.

    Raises:
        InputError: no such checkpoint, or `out` has a run already.
        RunError: it cannot be written.
    """
    source = file_of(run)
    target = out / LAST
    for path in (target, *(out / name for name in BESIDE)):
        if path.exists():
            raise InputError(f"{path} is there already: choose another --out, or remove it.")
    content = checkpoint.read(source)
    weights = {name: halve(tensor) for name, tensor in content["network"].items()}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in BESIDE:
            if (source.parent / name).exists():
                shutil.copyfile(source.parent / name, out / name)
    except OSError as error:
        raise RunError(f"Cannot write {out}: {error.strerror or error}.") from error
    checkpoint.save(target, **{k: content[k] for k in KEPT}, network=weights)
    return Packed(path=target, before=source.stat().st_size, after=target.stat().st_size)


def halve(tensor: torch.Tensor) -> torch.Tensor:
    """Half precision for what is a fraction; counters stay as they are."""
    return tensor.half() if tensor.is_floating_point() else tensor
