"""Where a backbone starts: published weights, a file, or random numbers if asked for."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mtlcli import lookup
from mtlcli.backbones._tensor_files import read_tensors
from mtlcli.backbones._weights import Converted, Weights, first_names
from mtlcli.data.download import Downloader, DownloadError
from mtlcli.data.progress import Bars
from mtlcli.datasets._dataset import Remote
from mtlcli.errors import InputError, RunError
from mtlcli.files import checksums
from mtlcli.home import weights_dir

RANDOM = "random"
MOST_NAMED = 20  # tensors in one message
COUNTERS = "num_batches_tracked"  # of batch norms; files of old PyTorch have none, nothing uses it


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a backbone's numbers come from, as run.json tells it."""

    init: str  # as given: a name or a path
    file: str | None = None
    sha256: str | None = None
    url: str | None = None
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
        RunError: published weights that cannot be downloaded, or are not the right ones.
    """
    module = lookup.load("backbones", name)
    backbone: nn.Module = module.build()
    if init == RANDOM:
        return backbone, Start(init=init)
    published: dict[str, Weights] = module.WEIGHTS
    if init not in published and not Path(init).is_file():
        known = ", ".join([*published, RANDOM])
        raise InputError(
            f"--init {init}: {name} starts from {known} or a file; there is no such file."
        )
    path = fetch(published[init], quiet=quiet) if init in published else Path(init)
    converted: Converted | None = module.convert(read_tensors(path))
    if converted is None:
        raise InputError(f"{path} holds no weights of {name} in a layout known here.")
    load_strictly(backbone, converted, f"{path} does not fit {name}")
    return backbone, Start(
        init=init,
        file=path.name,
        sha256=checksums(path)["sha256"],
        url=published[init].url if init in published else None,
        ignored=converted.ignored,
        fresh=converted.fresh,
    )


def fetch(weights: Weights, *, quiet: bool = False) -> Path:
    """The file in weights/, downloaded if it is not there, and verified.

    Raises:
        RunError: it cannot be had, or has another checksum.
    """
    folder = weights_dir()
    path = folder / weights.file
    was_there = path.exists()
    remote = Remote(file=weights.file, urls=(weights.url,), sha256=weights.sha256)
    downloader = Downloader(folder=folder, ledger=folder / "sources.json", bars=Bars(quiet))
    try:
        return downloader.fetch(remote)
    except DownloadError as error:
        if was_there:
            raise
        raise RunError(
            f"{error}. Get {weights.url} and put it at {path.resolve()}, "
            f"or start with --init {RANDOM}."
        ) from error


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
    missing = [k for k in expected if k not in given and not k.endswith(COUNTERS)]
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
