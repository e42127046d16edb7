"""`mtl backbones`: what there is to choose from, ours and timm's, without asking any network."""

from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch

from mtlcli import lookup
from mtlcli.backbones._backbone import PREFIX, Backbone, find
from mtlcli.errors import InputError
from mtlcli.models.pyramid import STRIDES

MOST_MEASURED = 10  # networks of timm's: each takes up to a second to be built without numbers


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A backbone as it is listed; None and (): not looked at, there are too many."""

    name: str
    parameters: int | None = None
    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    weights: tuple[str, ...] = ()  # that `--init` takes
    licence: str = ""  # of these
    refused: str = ""  # why it gives no maps

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return asdict(self)


def list_backbones(pattern: str | None = None) -> list[Entry]:
    """Our own backbones, or all whose name has a part like the pattern, timm's with their tags.

    Args:
        pattern: part of a name, in which `*`, `?` and `[...]` stand for others.

    Raises:
        InputError: none has.
    """
    own = list(lookup.names("backbones"))
    if pattern is None:
        return [describe(name, measured=True) for name in own]
    known = own + [PREFIX + name for name in names_of_timm()]
    found = [name for name in known if fnmatchcase(name.lower(), f"*{pattern.lower()}*")]
    if not found:
        hint = lookup.suggest(pattern, known)
        raise InputError(f"No backbone has '{pattern}' in its name.{hint}")
    networks = list(dict.fromkeys(map(architecture, found)))[:MOST_MEASURED]
    return [describe(name, measured=architecture(name) in networks) for name in found]


def names_of_timm() -> list[str]:
    """Every tag of weights, and every architecture that has none."""
    from mtlcli.backbones import _timm

    known = _timm.names()
    tagged = {name.partition(".")[0] for name in known if "." in name}
    return [name for name in known if name not in tagged]


def architecture(name: str) -> str:
    """The name without the tag of weights."""
    return name.partition(".")[0]


def describe(name: str, measured: bool) -> Entry:
    """What is to be said of a backbone; parameters and maps only if it is to be built."""
    backbone = find(name)
    sources = [source for each in backbone.weights.values() for source in each]
    told = {
        "name": name,
        "weights": tuple(backbone.weights),
        "licence": ", ".join(dict.fromkeys(source.licence for source in sources)),
    }
    if not measured:
        return Entry(**told)  # type: ignore[arg-type]
    try:
        parameters, channels = measure(backbone)
    except InputError as error:
        return Entry(**told, refused=str(error))  # type: ignore[arg-type]
    return Entry(**told, parameters=parameters, channels=channels, strides=STRIDES)  # type: ignore[arg-type]


def measure(backbone: Backbone) -> tuple[int, tuple[int, ...]]:
    """Parameters, and the channels of the four maps, of a network built without numbers (raises
    InputError as `build`).
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = backbone.build()
    channels: tuple[int, ...] = network.channels  # type: ignore[assignment]
    return sum(p.numel() for p in network.parameters()), tuple(channels)
