"""The records of where published weights are, and of a file brought into our layout."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from torch import Tensor

State = Mapping[str, Tensor]
WHOLE_NETWORKS = ("backbone.", "swin.")  # what a network calls the backbone inside it
CONSTANTS = (  # endings of tensors that a network has by itself; files may lack them
    "num_batches_tracked",
    "relative_position_index",
)


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """Published weights in a repository on the Hugging Face hub, which tells their checksum."""

    repo: str  # OWNER/NAME
    path: str  # in the repository
    licence: str  # of the weights, as SPDX names it
    revision: str = "main"

    @property
    def file(self) -> str:
        """The name it has in weights/ if it is put there by hand: the repository's."""
        return self.repo.rpartition("/")[2] + PurePosixPath(self.path).suffix

    @property
    def title(self) -> str:
        """The source in a message."""
        at = "" if self.revision == "main" else f" at {self.revision}"
        return f"hub {self.repo}{at}, {self.path}"


@dataclass(frozen=True, kw_only=True)
class UrlFile:
    """Published weights at an address of their own."""

    url: str
    sha256: str  # its first digits, as its publisher gives them
    licence: str  # of the weights, as SPDX names it

    @property
    def file(self) -> str:
        """The name it has at its publisher and in weights/."""
        return self.url.rpartition("/")[2]

    @property
    def title(self) -> str:
        """The source in a message."""
        return self.url


@dataclass(frozen=True, kw_only=True)
class PackageFile:
    """Published weights in a Python package, for machines that reach a package index but no hub."""

    package: str  # its name in the index
    path: str  # among its files
    sha256: str  # its first digits, as its publisher gives them
    licence: str  # of the weights, as SPDX names it

    @property
    def file(self) -> str:
        """The name it has in its package and in weights/."""
        return self.path.rpartition("/")[2]

    @property
    def title(self) -> str:
        """The source in a message."""
        return f"package {self.package}"


Source = HubFile | UrlFile | PackageFile
Sources = tuple[Source, ...]  # of the same weights, the likeliest first


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Tensors by the names of our backbone."""

    tensors: State
    ignored: tuple[str, ...] = ()  # first names of what belongs to another part of a network
    fresh: tuple[str, ...] = ()  # first names of what such files never have: stays as built
    note: str | None = None  # how they were found, where that is not by their names


def of_backbone(state: State) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of the backbone in a file of a whole network, and what else it holds.

    A file without such names is one of the backbone alone.
    """
    inside = {k.partition(".")[2]: v for k, v in state.items() if is_inside(k)}
    if not inside:
        return dict(state), ()
    return inside, first_names(k for k in state if not is_inside(k))


def is_inside(name: str) -> bool:
    """Whether a name of a whole network's file is the backbone's."""
    return name.startswith(WHOLE_NETWORKS)


def first_names(names: Iterable[str]) -> tuple[str, ...]:
    """The distinct first parts of dotted names, in order."""
    return tuple(dict.fromkeys(name.partition(".")[0] for name in names))


def without(state: State, heads: tuple[str, ...]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors whose first name is none of `heads`, and which of these there were."""
    kept = {k: v for k, v in state.items() if k.partition(".")[0] not in heads}
    return kept, first_names(k for k in state if k not in kept)
