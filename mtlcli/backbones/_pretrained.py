"""Where a backbone starts: published weights, a file, or random numbers if asked for."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mtlcli import lookup
from mtlcli.backbones import _published as published
from mtlcli.backbones._published import Obtained
from mtlcli.backbones._tensor_files import read_tensors
from mtlcli.backbones._weights import CONSTANTS, Converted, Sources, first_names
from mtlcli.errors import InputError
from mtlcli.files import checksums

RANDOM = "random"
MOST_NAMED = 20  # tensors in one message


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a backbone's numbers come from, as run.json tells it."""

    init: str  # as given: a name or a path
    file: str | None = None
    source: str | None = None  # repository on the hub, address, or path
    url: str | None = None  # if that is an address
    revision: str | None = None  # the repository's commit
    sha256: str | None = None
    licence: str | None = None  # of published weights
    ignored: tuple[str, ...] = ()  # parts of the file that are not the backbone's
    fresh: tuple[str, ...] = ()  # parts of the backbone that the file does not have


def start(name: str, init: str, *, quiet: bool = False) -> tuple[nn.Module, Start]:
    """A backbone with its first weights.

    Args:
        name: of the backbone.
        init: a name among its published weights, `random`, or the path of a file.
        quiet: no progress bars.

    Raises:
        InputError: neither a name nor a file, or a file that does not fit.
        RunError: published weights that no source gives as they should be.
    """
    module = lookup.load("backbones", name)
    backbone: nn.Module = module.build()
    if init == RANDOM:
        return backbone, Start(init=init)
    weights: dict[str, Sources] = module.WEIGHTS

    def use(obtained: Obtained) -> Start:
        return fill(backbone, name, init, obtained)

    if init in weights:
        title = f"The {init} weights of {name}"
        return backbone, published.take(weights[init], use, title, quiet=quiet)
    if not Path(init).is_file():
        known = ", ".join([*weights, RANDOM])
        raise InputError(
            f"--init {init}: {name} starts from {known} or a file; there is no such file."
        )
    return backbone, use(Obtained(path=Path(init), file=Path(init).name, source=init))


def fill(backbone: nn.Module, name: str, init: str, obtained: Obtained) -> Start:
    """Copy a file's weights into a backbone.

    Raises:
        InputError: the file cannot be read, or does not fit.
    """
    module, path = lookup.load("backbones", name), obtained.path
    converted: Converted | None = module.convert(read_tensors(path))
    if converted is None:
        known = ", ".join(module.LAYOUTS)
        raise InputError(f"{path} holds no weights of {name} in a layout known here: {known}.")
    load_strictly(backbone, converted, f"{path} does not fit {name}")
    return Start(
        init=init,
        file=obtained.file,
        source=obtained.source,
        url=obtained.url,
        revision=obtained.revision,
        sha256=checksums(path)["sha256"],
        licence=obtained.licence,
        ignored=converted.ignored,
        fresh=converted.fresh,
    )


def load_strictly(module: nn.Module, converted: Converted, failure: str) -> None:
    """Copy all tensors into a module.

    Args:
        module: what receives them.
        converted: tensors by its names.
        failure: how the message begins if they do not fit.

    Raises:
        InputError: names what is missing, surplus or misshapen.
    """
    own = module.state_dict()
    problems = differences(own, converted)
    if problems:
        raise InputError(f"{failure}: {'; '.join(problems)}.")
    module.load_state_dict({**own, **converted.tensors})


def differences(own: dict[str, Tensor], converted: Converted) -> list[str]:
    """What keeps tensors from fitting, in words."""
    given = converted.tensors
    expected = [k for k in own if first_names([k])[0] not in converted.fresh]
    missing = [k for k in expected if k not in given and not k.endswith(CONSTANTS)]
    surplus = [k for k in given if k not in own]
    misshapen = [
        f"{k} is {size(given[k])}, expected {size(own[k])}"
        for k in given
        if k in own and given[k].shape != own[k].shape
    ]
    named = {"missing": missing, "surplus": surplus, "misshapen": misshapen}
    return [f"{kind}: {enumerate_(names)}" for kind, names in named.items() if names]


def enumerate_(names: Iterable[str]) -> str:
    """Names in a row; after the first twenty, how many more."""
    listed = list(names)
    more = len(listed) - MOST_NAMED
    return ", ".join(listed[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def size(tensor: Any) -> str:
    """2x3 for a tensor of shape (2, 3)."""
    return "x".join(map(str, tensor.shape)) or "a number"
