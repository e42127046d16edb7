"""The network that a run begins with: random numbers, published weights of the backbone, and what
fits of the run that --from names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mtlcli.backbones._pretrained import RANDOM, start
from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError
from mtlcli.files import checksums
from mtlcli.ops import processes as distributed
from mtlcli.runs import checkpoint, hub_run
from mtlcli.runs.checkpoint import WithoutRandomNumbers
from mtlcli.runs.config import INHERITED, RunConfig
from mtlcli.runs.names import file_of
from mtlcli.runs.record import find_record

NAMED = 3  # tensors in a line


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What became of another run's weights, as run.json tells it; all are tensors."""

    run: str  # its name; on the hub with its commit
    file: str
    sha256: str
    iteration: int  # of the run
    taken: int
    fresh: tuple[str, ...]  # of this network, begun as without --from
    unused: tuple[str, ...]  # of the run, without a place here

    def text(self) -> str:
        """Two lines for people."""
        whole = self.taken + len(self.fresh)
        return (
            f"From {self.run}, iteration {self.iteration}: {self.taken} of {whole} tensors taken.\n"
            f"Fresh: {count(self.fresh)}. Left behind: {count(self.unused)}."
        )


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """A network before its first iteration."""

    network: nn.Module
    init: Mapping[str, Any]  # where the backbone's numbers come from, see `Start`
    taken: Taken | None  # from another run

    def remarks(self) -> str:
        """Lines for people: under which licence the backbone's weights are, and what was taken."""
        its = self.init
        licence = its.get("licence") and (
            f"mtl: licence of {its['file']} of {its['source']}: {its['licence']}"
        )
        lines = [licence, self.taken and self.taken.text()]
        return "".join(f"{line}\n" for line in lines if line)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A run whose weights are taken where they fit."""

    file: Path
    content: Mapping[str, Any]  # of the checkpoint
    names: frozenset[str]  # tensors that fit
    backbone: bool  # whether every parameter of the backbone is among them

    def fill(self, network: nn.Module, config: RunConfig) -> Taken:
        """Copy what fits into a network, whatever its precision."""
        own, theirs = network.state_dict(), self.content["network"]
        network.load_state_dict({**own, **{name: theirs[name] for name in self.names}})
        return Taken(
            run=hub_run.name_of(self.file.parent) or config.from_run,
            file=self.file.name,
            sha256=checksums(self.file)["sha256"],
            iteration=self.content["iteration"],
            taken=len(self.names),
            fresh=tuple(name for name in own if name not in self.names),
            unused=tuple(name for name in theirs if name not in self.names),
        )


def begin(
    config: RunConfig, dataset: Info, *, sha256: str | None = None, quiet: bool = False
) -> Beginning:
    """Build the network of a run, with its first weights; torch's generator is seeded for the run.

    Args:
        config: complete.
        dataset: that it is trained on.
        sha256: that the checkpoint of --from must have; by default any.
        quiet: no progress bars.

    Raises:
        InputError, RunError: weights that cannot be had or do not fit, or of which nothing fits.
    """
    source = find_source(config, dataset) if config.from_run else None
    whole = source is not None and source.backbone
    init = choose_init(config, whole)
    distributed.by_first(lambda: start(config.backbone, init, quiet=quiet)[1])
    torch.manual_seed(config.seed)
    backbone, its = start(config.backbone, init, quiet=True)
    network = checkpoint.build_network(config, dataset, backbone)
    if not source:
        return Beginning(network=network, init=asdict(its), taken=None)
    taken, record = source.fill(network, config), find_record(source.file)
    if sha256 not in (None, taken.sha256):
        raise InputError(
            f"--from {config.from_run}: {source.file} has changed since the run began; train anew "
            "with another --out."
        )
    known = record.init if whole and record else None
    return Beginning(
        network=network, init=known or {**asdict(its), "init": config.init}, taken=taken
    )


def find_source(config: RunConfig, dataset: Info) -> Source:
    """Read the run that --from names, and compare its tensors with those of the network to begin.

    Raises:
        InputError: there is no such run, or no parameter fits.
        RunError: the hub does not give it.
    """
    distributed.by_first(lambda: file_of(Path(config.from_run), "--from"))  # fetches it once
    place = file_of(Path(config.from_run))
    content = checkpoint.read(place)
    checkpoint.facts_of(content, place)
    with WithoutRandomNumbers():
        network = checkpoint.build_network(config, dataset)
    theirs, own = content["network"], network.state_dict()
    names = frozenset(n for n, w in own.items() if n in theirs and theirs[n].shape == w.shape)
    parameters = [name for name, _ in network.named_parameters()]
    if names.isdisjoint(parameters):
        raise InputError(
            f"--from {config.from_run}: nothing of it fits {config.system} on {config.backbone} "
            "with these settings; leave these to it, or --from away."
        )
    inner = [name for name in parameters if "backbone" in name.split(".")]
    return Source(file=place, content=content, names=names, backbone=names.issuperset(inner))


def take_over(config: RunConfig, dataset: Info) -> RunConfig:
    """A config that leaves open what its backbone starts from: if the run that --from names fills
    it, by whatever name, that, and the run's mean and deviation (raises as `find_source`).
    """
    source = find_source(config, dataset)
    if not source.backbone:
        return config
    its, _ = checkpoint.facts_of(source.content, source.file)
    mean, deviation = config.mean or its.moments[0], config.deviation or its.moments[1]
    return replace(config, init=INHERITED, mean=mean, deviation=deviation)


def choose_init(config: RunConfig, whole: bool) -> str:
    """What the backbone starts from before a run's weights replace what fits.

    Args:
        config: of the run that begins.
        whole: whether they replace all of it.

    Raises:
        InputError: then --init is in vain; or else it is needed and not given.
    """
    if whole and config.init != INHERITED:
        raise InputError(
            f"--from {config.from_run} fills the whole backbone, so that --init {config.init} "
            "would have no effect: leave one of them away."
        )
    if not whole and config.init == INHERITED:
        raise InputError(
            f"--from {config.from_run} fills the backbone {config.backbone} in part only: say with "
            "--init what the rest starts from."
        )
    assert config.init  # it is complete
    return RANDOM if whole else config.init


def count(names: Iterable[str]) -> str:
    """`5 (a, b, c and 2 more)`, or `none`."""
    listed = list(names)
    more = len(listed) - NAMED
    first = ", ".join(listed[:NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"{len(listed)} ({first})" if listed else "none"
