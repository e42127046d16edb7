"""The record of a backbone's published weights, and of a file brought into our layout."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

State = Mapping[str, Tensor]
WHOLE_NETWORK = "backbone."


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A file of published weights."""

    url: str
    sha256: str  # its first digits, as its publisher gives them

    @property
    def file(self) -> str:
        """The name it has at its publisher and in weights/."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Tensors by the names of our backbone."""

    tensors: State
    ignored: tuple[str, ...] = ()  # first names of what belongs to another part of a network
    fresh: tuple[str, ...] = ()  # first names of what such files never have: stays as built


def of_backbone(state: State) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of the backbone in a file of a whole network, and what else it holds.

    A file without `backbone.` names is one of the backbone alone.
    """
    inside = {k.removeprefix(WHOLE_NETWORK): v for k, v in state.items() if is_inside(k)}
    if not inside:
        return dict(state), ()
    return inside, first_names(k for k in state if not is_inside(k))


def is_inside(name: str) -> bool:
    """Whether a name of a whole network's file is the backbone's."""
    return name.startswith(WHOLE_NETWORK)


def first_names(names: Iterable[str]) -> tuple[str, ...]:
    """The distinct first parts of dotted names, in order."""
    return tuple(dict.fromkeys(name.partition(".")[0] for name in names))


def without(state: State, heads: tuple[str, ...]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors whose first name is none of `heads`, and which of these there were."""
    kept = {k: v for k, v in state.items() if k.partition(".")[0] not in heads}
    return kept, first_names(k for k in state if k not in kept)
