"""A run on disk: all that is needed to rebuild its network and the preprocessing it was trained
with.

Layout of a run folder: run.json (settings and provenance), log.jsonl (one line per logged
iteration), last.pt (the newest checkpoint), results.json (written by `mtl eval`).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from mtlcli import lookup, tasks
from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError, RunError
from mtlcli.files import replacing
from mtlcli.home import weights_dir
from mtlcli.ops.devices import pick_device
from mtlcli.runs.config import RunConfig
from mtlcli.runs.names import meant
from mtlcli.runs.shipped import NAME as SHIPPED
from mtlcli.runs.shipped import shipped
from mtlcli.tasks._task import Task

LAST = "last.pt"
FORMAT = 1  # of the checkpoint; raised when an older program could not read a newer file


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained network with what belongs to it."""

    path: Path
    network: nn.Module
    config: RunConfig
    dataset: Info  # that it was trained on
    iteration: int

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """What it predicts, by name."""
        return tasks_of(self.config.tasks, self.dataset)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures it was trained on."""
        return self.config.size or self.dataset.size


def tasks_of(names: Iterable[str], dataset: Info) -> dict[str, Task]:
    """Tasks of a dataset by their names (raises InputError for what is none)."""
    return tasks.named(names, dataset.kinds, dataset.options)


def build_network(config: RunConfig, dataset: Info, backbone: nn.Module | None = None) -> nn.Module:
    """The network of a run, freshly initialised from torch's generator.

    Args:
        config: with all tasks named.
        dataset: of whose classes a network has outputs.
        backbone: with the weights it starts from; by default one with random weights.
    """
    channels = {
        name: task.outputs(dataset.classes.get(name, ()))
        for name, task in tasks_of(config.tasks, dataset).items()
    }
    system = lookup.load("systems", config.system)
    backbone = backbone or lookup.load("backbones", config.backbone).build()
    network: nn.Module = system.build(channels, backbone, **config.settings)
    return network


def save(path: Path, **content: Any) -> None:
    """Write a checkpoint, whole or not at all; `content` is plain types and tensors (see `read`).

    Raises:
        RunError: it cannot be written.
    """
    try:
        with replacing(path) as file:
            torch.save({"format": FORMAT, **content}, file)
    except (OSError, RuntimeError) as error:
        raise RunError(
            f"Cannot write {path}: {error}. The previous checkpoint is untouched; free some disk."
        ) from error


def file_of(path: Path) -> Path:
    """The file that a path to a checkpoint or to its run folder means, or the name of a run (raises
    InputError as `mtlcli.runs.names.meant`).
    """
    path = meant(path)
    return path / LAST if path.is_dir() else path


def is_shipped(file: Path) -> bool:
    """Whether a checkpoint is the one in the package, beside which nothing is to be written."""
    own = shipped()
    return own is not None and file.resolve() == own.resolve()


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, tensors on the CPU.

    Raises:
        InputError: no such file, a damaged one, not a checkpoint of this program, or of another
            format.
    """
    path = file_of(path)
    if not path.is_file():
        raise InputError(f"There is no checkpoint {path}. `mtl train` writes weights/RUN/last.pt.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except Exception as error:  # what damaged bytes make of unpickling can be anything
        raise InputError(damage(path)) from error
    if not isinstance(content, dict) or "format" not in content:
        raise InputError(f"{path} is not a checkpoint written by mtl.")
    if content["format"] != FORMAT:
        raise InputError(
            f"{path} has checkpoint format {content['format']}, this program reads {FORMAT}; "
            "use the version of mtl that wrote it, or train again."
        )
    return content


def damage(path: Path) -> str:
    """What to say of a file that cannot be read, and how to have its run again."""
    run = path.parent
    if path.name == LAST and (run / "run.json").is_file():
        remedy = f"remove it, and `mtl train --resume {run}` begins it again"
        return f"{path} is cut short or damaged (see `mtl doctor`): {remedy}."
    remedy = "train again, or name another run (`mtl doctor` lists them)"
    return f"{path} is cut short or damaged, or not of mtl: {remedy}."


def load(path: Path, device: torch.device | str = "auto") -> Trained:
    """Rebuild the network of a checkpoint in evaluation mode.

    Args:
        path: checkpoint or run folder.
        device: where the network goes; a string is one of `mtlcli.ops.devices.pick_device`.

    Raises:
        InputError: see `read`; also when its weights do not fit the network of this version.
    """
    target = pick_device(device) if isinstance(device, str) else device
    content = read(path)
    try:
        config = RunConfig.from_json(content["config"])
        dataset = Info.from_json(content["dataset"])
        with WithoutRandomNumbers():
            network = build_network(config, dataset)
        network.load_state_dict(content["network"])
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} does not fit this version of mtl ({reason}).") from error
    return Trained(
        path=path,
        network=network.to(target).eval(),
        config=config,
        dataset=dataset,
        iteration=content["iteration"],
    )


class WithoutRandomNumbers(TorchFunctionMode):
    """Within it tensors are filled with zeros where random numbers would be drawn, which a network
    that gets its weights from elsewhere would spend seconds on. All else is computed, buffers that
    no file holds as well. (Zeros, for `trunc_normal_` draws until all numbers are in its range.)
    """

    RANDOM = (torch.Tensor.normal_, torch.Tensor.uniform_)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return args[0].zero_() if func in self.RANDOM else func(*args, **(kwargs or {}))


def newest(dataset: str | None = None) -> Path:
    """The checkpoint written last under weights/, or else the network that comes with the package.

    Args:
        dataset: only of runs on this dataset.

    Raises:
        InputError: there is none, or it is cut short.
    """
    own = shipped()
    runs = [p for p in weights_dir().rglob(LAST) if p.parent.name != SHIPPED]
    found = runs if dataset is None else [p for p in runs if dataset_of(p) == dataset]
    if not found and own and (dataset is None or dataset_of(own) == dataset):
        return own
    if not found:
        kind = f"network trained on {dataset}" if dataset else "trained network"
        raise InputError(
            f"There is no {kind} in {weights_dir()}/. Train one (`mtl demo`, `mtl train`) "
            "or name one with --checkpoint."
        )
    *others, last = sorted(found, key=lambda p: p.stat().st_mtime)
    if not is_zipfile(last):  # its directory stands at its end
        whole = [p.parent for p in reversed(others) if is_zipfile(p)]
        other = SHIPPED if own else next(map(str, whole), "RUN")
        raise InputError(
            f"{damage(last)} It was chosen as the newest run; `--checkpoint {other}` takes another."
        )
    return last


def dataset_of(path: Path) -> str | None:
    """The dataset that run.json beside a checkpoint names."""
    try:
        return json.loads(path.with_name("run.json").read_text())["config"]["dataset"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
