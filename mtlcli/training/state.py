"""What changes while a network is trained, how it comes back, and what must be as it was."""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtlcli.data.hdf5 import Info
from mtlcli.data.reader import Reader
from mtlcli.errors import InputError, RunError
from mtlcli.files import typed
from mtlcli.ops.processes import gather, is_first, rank, world
from mtlcli.runs import checkpoint
from mtlcli.runs.config import AUTO, RunConfig, spell, typed_name
from mtlcli.runs.folder import LAST, PACKED, RECORD, is_packed
from mtlcli.runs.record import Record, read_record
from mtlcli.systems import _settings as settings
from mtlcli.training.average import Average
from mtlcli.training.backbone import set_training


def folder_of(run: Path) -> Path:
    """The folder of a run to go on with, by itself or by its newest checkpoint.

    Raises:
        InputError: it is another file.
    """
    if run.name in (LAST, PACKED):
        return run.parent
    if run.is_file():
        raise InputError(
            f"--resume {run}: a run goes on from its {LAST} (--resume {run.parent}); --from {run} "
            "begins another with these weights."
        )
    return run


def read_begun(folder: Path) -> Record:
    """The record of a run that can go on.

    Raises:
        InputError: no run began there, or not one of this version.
    """
    if is_packed(folder):
        raise InputError(
            f"--resume {folder}: made small by `mtl pack`, it has no optimiser and cannot be "
            f"resumed; `mtl train --from {folder}` begins a run with its weights."
        )
    if not (folder / RECORD).is_file():
        raise InputError(
            f"--resume {folder}: no run began there (it has no {RECORD}); "
            f"start one with `mtl train --out {folder}`."
        )
    record = read_record(folder)
    if record.fingerprint is None or record.device is None:
        raise InputError(f"{folder / RECORD} is no record of a run that this version can resume.")
    return record


def refuse_other_options(folder: Path, config: RunConfig, given: Mapping[str, Any]) -> None:
    """A run is continued with its own options.

    Args:
        folder: of the run.
        config: of the run, complete.
        given: fields of `RunConfig` that the user gave now.

    Raises:
        InputError: some of them differ; all are named.
    """
    typed = given.get("settings", {})
    complete = settings.complete(config.system, typed)
    now = flat({**given, "settings": {name: complete[name] for name in typed}})
    own = flat(config.to_json() | {"settings": settings.complete(config.system, config.settings)})
    differing = [
        f"{settings.flag(name)} is {spell(own[name])} there, not {spell(value)}"
        for name, value in now.items()
        if value != own[name] and spell(value) != spell(own[name])
    ]
    if differing:
        raise InputError(
            f"--resume {folder}: {'; '.join(differing)}. A run is resumed with its own options: "
            "leave these out."
        )


def flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the settings of the system among them; tasks in the order of their names."""
    plain = {typed_name(k): v for k, v in options.items() if k not in ("settings", "tasks")}
    if "tasks" in options:
        plain["task"] = sorted(options["tasks"])
    if plain.get("batch_size") == AUTO:
        plain["batch_size"] = "auto"
    return plain | dict(options["settings"])


def refuse_other_data(folder: Path, fingerprint: str | None, reader: Reader) -> None:
    """A run is continued with the samples it began with.

    Raises:
        InputError: the dataset file holds others.
    """
    if reader.fingerprint() != fingerprint:
        raise InputError(
            f"--resume {folder}: the training samples in {reader.path} have changed since the run "
            "began; put the file of then back, or train anew with another --out."
        )


RAW = "raw"  # of a checkpoint whose network is an average: the weights that training goes on from


@dataclass
class State:
    """A run between two iterations."""

    config: RunConfig
    dataset: Info  # that it is trained on
    folder: Path
    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    weighting: nn.Module  # losses of the tasks -> the one that is minimised
    device: torch.device
    average: Average | None = None  # of the weights, which is then what the run is made for
    iteration: int = 0  # steps done
    saved: int | None = None  # the iteration of last.pt, if there is one

    def save(self, keep: int = 0, name: str = LAST) -> None:
        """Write a checkpoint; the one before is untouched if anything fails.

        All processes take part, the first one writes.

        Args:
            keep: how many of the newest checkpoints stay, as iteration_N.pt.
            name: of the file.

        Raises:
            RunError: a weight is not finite, or the file cannot be written.
        """
        raw = self.network.state_dict()
        self._refuse_infinite(raw)
        states = gather(generators(self.device))
        if not is_first():
            return
        checkpoint.save(
            self.folder / name,
            config=self.config.to_json(),
            dataset=self.dataset.to_json(),
            iteration=self.iteration,
            network=self.average.weights if self.average else raw,
            **({RAW: raw} if self.average else {}),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            weighting=self.weighting.state_dict(),
            generators=states,
        )
        if name == LAST:
            self.saved = self.iteration
        if keep:
            self._keep(keep)

    def restore(self) -> None:
        """Go back to last.pt, or stay at the start if nothing was saved yet.

        Raises:
            InputError: it is not a checkpoint of this network.
        """
        path = self.folder / LAST
        if not path.exists():
            return
        saved = checkpoint.read(path)
        if "optimizer" not in saved:
            raise InputError(
                f"{path} was made small by `mtl pack` and has no optimiser: it cannot be resumed; "
                f"`mtl train --from {typed(path)}` begins a run with its weights."
            )
        try:
            self.network.load_state_dict(saved[RAW if self.average else "network"])
            if self.average:
                self.average.load(saved["network"])
            self.optimizer.load_state_dict(saved["optimizer"])
            if self.scaler.is_enabled() and saved["scaler"]:
                self.scaler.load_state_dict(saved["scaler"])
            self.iteration = self.saved = saved["iteration"]
            self.weighting.load_state_dict(saved["weighting"])
            if len(saved["generators"]) == world():
                set_generators(saved["generators"][rank()], self.device)
            else:
                torch.manual_seed(hash((self.config.seed, self.iteration, rank())))
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{path} does not fit this version of mtl ({reason}).") from error

    def train(self) -> None:
        """From now on the network is in training mode."""
        set_training(self.network, frozen=self.config.freeze_backbone)

    @contextmanager
    def evaluated(self) -> Iterator[nn.Module]:
        """Within it, the network is in evaluation mode, with the weights that are scored."""
        with self.average.in_network() if self.average else nullcontext():
            yield self.network.eval()
        self.train()

    def is_finite(self) -> bool:
        """Whether every weight is a number."""
        return all(bool(torch.isfinite(w).all()) for w in self.network.state_dict().values())

    def _keep(self, newest: int) -> None:
        """A run that was taken back knows nothing of checkpoints beyond this iteration: they go."""
        kept = self.folder / f"iteration_{self.iteration}.pt"
        kept.unlink(missing_ok=True)
        try:
            kept.hardlink_to(self.folder / LAST)
        except OSError:  # a file system without links
            shutil.copyfile(self.folder / LAST, kept)
        numbered = {int(found[1]): path for path in self.folder.glob("iteration_*.pt")
                    if (found := re.fullmatch(r"iteration_(\d+)\.pt", path.name))}  # fmt: skip
        past = sorted(number for number in numbered if number <= self.iteration)
        for number in numbered.keys() - set(past[-newest:]):
            numbered[number].unlink()

    def _refuse_infinite(self, weights: Mapping[str, Tensor]) -> None:
        for name, weight in weights.items():
            if not torch.isfinite(weight).all():
                raise RunError(
                    f"The weights {name} are not finite at iteration {self.iteration}; "
                    f"{self.folder / LAST} is kept as it was. Lower --lr (now {self.config.lr:g})."
                )


def generators(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's generators that training draws from, on the CPU and on the device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_generators(states: Mapping[str, Tensor], device: torch.device) -> None:
    """The inverse of `generators`; a state of another kind of device has no meaning on this one."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    if device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
