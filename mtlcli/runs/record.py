"""run.json: all that was used to make a run, and in what that departs from a recipe."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mtlcli
from mtlcli import datasets
from mtlcli.data.hdf5 import Info
from mtlcli.errors import InputError
from mtlcli.files import require_fitting, write_json
from mtlcli.runs.config import LOGGER, RunConfig
from mtlcli.runs.folder import RECORD, read_object, record_file
from mtlcli.runs.scale import read_scales
from mtlcli.systems import _settings as settings

if TYPE_CHECKING:
    from mtlcli.data.reader import Reader
    from mtlcli.recipes._recipe import Recipe

Departures = Mapping[str, tuple[Any, Any]]  # option -> (the run's value, the recipe's)


def find_departures(config: RunConfig, its: "Recipe", images: int | None = None) -> Departures:
    """Where a run and a recipe differ, settings one by one; what is left open differs in nothing.

    Args:
        config: of the run.
        its: the recipe.
        images: in the training split of its dataset file, None where it is not known.
    """
    dataset = datasets.find(its.dataset)
    published = RunConfig(**its.options())
    usual = complete(
        published,
        tasks=dataset.tasks,
        size=dataset.size,
        mean=published.moments[0],
        deviation=published.moments[1],
    )
    given = complete(
        config,
        tasks=usual.tasks,
        size=usual.size,
        amp=usual.amp,
        mean=config.moments[0],
        deviation=config.moments[1],
    )
    usual_images = dataset.splits["train"]
    own = list_options(given) | {"training_images": usual_images if images is None else images}
    others = list_options(usual) | {"training_images": usual_images}
    return {
        name: (own.get(name), others.get(name))
        for name in own | others
        if own.get(name) != others.get(name)
    }


def complete(config: RunConfig, **defaults: Any) -> RunConfig:
    """A config with values for what it leaves open."""
    left = {n: v for n, v in defaults.items() if getattr(config, n) in (None, ())}
    return replace(config, **left)


LEFT_OPEN = ("tasks", "size", "init", "amp", "mean", "deviation")  # filled in when a run begins


def list_options(config: RunConfig) -> dict[str, Any]:
    """Every option that moves scores, all settings of its system among them; the order of tasks
    does not matter, a crop of the whole size is none, and the usual zoom is none.
    """
    from mtlcli.data.augment import SCALES

    moving = (f.name for f in fields(config) if f.metadata.get("moves_scores"))
    options = {name: getattr(config, name) for name in moving}
    options["tasks"] = tuple(sorted(config.tasks))
    options["crop"] = None if config.crop == config.size else config.crop
    options["zoom"] = None if config.zoom == SCALES else config.zoom
    return options | settings.complete(config.system, config.settings)


def unlike(found: RunConfig, wanted: RunConfig) -> list[str]:
    """The options, the seed among them, in which a run departs from what was wanted; what this
    leaves to dataset, device and backbone does not count.
    """
    left = [name for name in LEFT_OPEN if not getattr(wanted, name)]
    own, its = ({"seed": config.seed, **list_options(config)} for config in (found, wanted))
    names = [name for name in {**its, **own} if name not in left]
    return [name for name in names if own.get(name) != its.get(name)]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What run.json says; None where a run of its kind or time has nothing to say."""

    config: RunConfig
    recipe: Mapping[str, Any] | None = None  # its name, and as overrides what departs from it
    parameters: int | None = None
    dataset: Info  # that it is trained on
    training_images: int | None = None  # in the training split of the dataset file
    fingerprint: str | None = None  # of these, with the labels of the run's tasks
    device: str | None = None
    started: str | None = None  # local time, ISO 8601
    command: Sequence[str] | None = None  # as typed after `mtl`
    versions: Mapping[str, str] | None = None  # of mtl and torch
    init: Mapping[str, Any] | None = None  # where the backbone's numbers come from
    scales: Mapping[str, Mapping[str, float]] | None = None  # task -> `DepthScale`, if fitted
    logger: LOGGER | None = None  # beside the log
    stopped: int | None = None  # the iteration at which --patience ended it
    taken: Mapping[str, Any] | None = None  # from another run, see `mtlcli.training.beginning`
    lengths: Sequence[Mapping[str, int]] | None = None  # {"from", "iterations"}, if it was extended
    imported_from: str | None = None  # a checkpoint of DeMT's code, and what became of it:
    fitted: int | None = None  # tensors of the network that it filled
    tensors: int | None = None  # of the network
    missing: Sequence[str] | None = None  # of them, those that stay random
    left_out: Mapping[str, str] | None = None  # tensor of the file -> why it was not used

    def to_json(self) -> dict[str, Any]:
        """Plain types only, without what is not known."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        known = {n: v for n, v in values.items() if v is not None or n == "recipe"}
        return known | {"config": self.config.to_json(), "dataset": self.dataset.to_json()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Record":
        """The inverse of `to_json`; what later versions may add is left out."""
        own = {f.name: record[f.name] for f in fields(cls) if f.name in record}
        require_fitting(cls, {k: v for k, v in own.items() if k not in ("config", "dataset")})
        read_scales(own.get("scales"))
        config = RunConfig.from_json(record["config"])
        if not config.tasks:
            raise ValueError("it names no tasks")
        return cls(**own | {"config": config, "dataset": Info.from_json(record["dataset"])})

    @property
    def final(self) -> int:
        """The iteration with which it is finished."""
        return self.stopped or self.config.iterations

    def departures(self, its: "Recipe") -> Departures:
        """In what the run departs from a recipe."""
        return find_departures(self.config, its, self.training_images)


def read_record(folder: Path) -> Record:
    """The record of a run from its folder.

    Raises:
        InputError: there is none, or it is not one of this version; the message says what is wrong.
    """
    path = record_file(folder)
    if not path.is_file():
        raise InputError(
            f"{folder} is no run: it has no {RECORD}. `mtl train` and `mtl demo` make runs in "
            "weights/RUN."
        )
    content = read_object(path, "config", "dataset")
    try:
        return Record.from_json(content)
    except (InputError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"{path}: this version cannot read its config ({reason}).") from error


def mark_stopped(folder: Path, iteration: int) -> None:
    """The run is finished with this iteration."""
    record = read_object(folder / RECORD)
    if record.get("stopped") != iteration:
        write_json(folder / RECORD, record | {"stopped": iteration})


def find_record(file: Path) -> Record | None:
    """The record beside a file of a run, None where there is none that can be read."""
    try:
        return read_record(file.parent)
    except InputError:
        return None


def make_record(
    config: RunConfig,
    reader: "Reader",
    device: str,
    parameters: int,
    init: Mapping[str, Any],
    taken: Mapping[str, Any] | None = None,
) -> Record:
    """The record of a run that begins.

    Args:
        config: complete.
        reader: of the training split.
        device: that it computes on.
        parameters: of its network.
        init: where the backbone's numbers come from.
        taken: what was taken from another run, if any was.
    """
    from mtlcli.recipes._recipe import recipe

    images, by = len(reader), recipe(config.recipe) if config.recipe else None
    departures = find_departures(config, by, images) if by else {}
    return Record(
        config=config,
        recipe={"name": by.name, "overrides": departures} if by else None,
        parameters=parameters,
        dataset=reader.info,
        training_images=images,
        fingerprint=reader.fingerprint(),
        device=device,
        started=now(),
        command=sys.argv[1:],
        versions=versions(),
        init=init,
        taken=taken,
    )


def now() -> str:
    """The time as records say it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def versions() -> dict[str, str]:
    """What a run is made with."""
    import torch

    return {"mtl": mtlcli.__version__, "torch": torch.__version__}
