"""Where a backbone starts: published weights, a file, or random numbers if asked for."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from mtlcli.backbones._backbone import RANDOM, find
from mtlcli.backbones._tensor_files import read_tensors
from mtlcli.backbones._weights import (
    CONSTANTS,
    Converted,
    HubFile,
    PackageFile,
    Source,
    Sources,
    UrlFile,
    first_names,
)
from mtlcli.data import hub
from mtlcli.data.download import Downloader
from mtlcli.data.mirror import MirrorError
from mtlcli.data.progress import Bars
from mtlcli.datasets._dataset import Remote
from mtlcli.errors import InputError, MtlError, RunError
from mtlcli.files import checksums
from mtlcli.home import weights_dir

Taken = TypeVar("Taken")
MOST_NAMED = 20  # tensors in one message


@dataclass(frozen=True, kw_only=True)
class Obtained:
    """A file of weights on this machine, and where it is from."""

    path: Path
    file: str  # its name in tables
    source: str  # repository on the hub, address, or path as given
    url: str | None = None  # if that is an address
    revision: str | None = None  # the repository's commit
    licence: str | None = None


def take(
    sources: Sources, use: Callable[[Obtained], Taken], title: str, *, quiet: bool = False
) -> Taken:
    """What `use` makes of the first file that can be had and that it accepts.

    Args:
        sources: in the order in which they are tried; a file in weights/ goes before all.
        use: takes the file, or raises an `MtlError` if it is not what it should be.
        title: of the weights, for the message.
        quiet: no progress bars.

    Raises:
        MtlError: the file in weights/ is not the right one.
        RunError: no source gives the right one; tells why, and where a file may be put.
    """
    for source in sources:
        if at_hand(source).exists():
            return use(from_folder(source, quiet))
    reasons: list[str] = []
    for source in sources:
        try:
            return use(obtain(source, quiet))
        except (MtlError, MirrorError) as error:
            reasons.append(f"  {source.title}: {' '.join(str(error).split())}")
    places = " or ".join(dict.fromkeys(str(at_hand(source).resolve()) for source in sources))
    if len(reasons) == 1:
        raise RunError(
            f"{title} cannot be had:{reasons[0][1:]}. Put the file at {places}, start from "
            "another by --init FILE, or with --init random."
        )
    raise RunError(
        "\n".join([
            f"{title} cannot be had:", *reasons,
            f"Put one of these files at {places}, or start with --init random.",
        ])
    )  # fmt: skip


def at_hand(source: Source) -> Path:
    """Where the file lies if it was put into weights/ by hand, or came from an address."""
    return weights_dir() / source.file


def from_folder(source: Source, quiet: bool) -> Obtained:
    """The file in weights/; its checksum is verified if one is published."""
    if isinstance(source, UrlFile):
        return obtain(source, quiet)
    path = at_hand(source)
    if isinstance(source, PackageFile):
        require_published(path, source)
    return Obtained(path=path, file=source.file, source=str(path), licence=source.licence)


def obtain(source: Source, quiet: bool) -> Obtained:
    """The file from one source, verified.

    Raises:
        MirrorError, RunError: it cannot be had, or is not the right one.
    """
    if isinstance(source, HubFile):
        cached = hub.fetch(source.repo, source.path, source.revision, quiet=quiet)
        return Obtained(
            path=cached.path,
            file=source.file,
            source=source.repo,
            revision=cached.revision,
            licence=source.licence,
        )
    if isinstance(source, PackageFile):
        return from_package(source)
    folder = weights_dir()
    remote = Remote(file=source.file, urls=(source.url,), sha256=source.sha256)
    downloader = Downloader(folder=folder, ledger=folder / "sources.json", bars=Bars(quiet))
    path = downloader.fetch(remote)
    return Obtained(
        path=path, file=source.file, source=source.url, url=source.url, licence=source.licence
    )


def packaged(name: str) -> Obtained | None:
    """A backbone's usual weights if an installed package has them, whole; nothing is fetched."""
    backbone = find(name)
    for source in backbone.weights.get(backbone.usual_init, ()):
        if isinstance(source, PackageFile):
            with suppress(MirrorError, RunError):
                return from_package(source)
    return None


def from_package(source: PackageFile) -> Obtained:
    """The file inside an installed package.

    Raises:
        MirrorError: it is not installed.
        RunError: its file is not the published one.
    """
    try:
        package = distribution(source.package)
    except PackageNotFoundError as error:
        raise MirrorError(f"not installed (pip install {source.package})") from error
    path = Path(str(package.locate_file(source.path)))
    require_published(path, source)
    found = f"{source.title} {package.version}"
    return Obtained(path=path, file=source.file, source=found, licence=source.licence)


def require_published(path: Path, source: PackageFile) -> None:
    """Refuse (RunError) a file of another checksum than the published one."""
    if not path.is_file() or not checksums(path)["sha256"].startswith(source.sha256):
        raise RunError(f"{path} is not what {source.title} published: install it anew.")


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
    note: str | None = None  # how its tensors were found, where that is not by their names


def start(name: str, init: str | None, *, quiet: bool = False) -> tuple[nn.Module, Start]:
    """A backbone with its first weights.

    Args:
        name: of the backbone.
        init: a name among its published weights, `random`, or the path of a file; None: the first
            of its published weights.
        quiet: no progress bars.

    Raises:
        InputError: neither a name nor a file, or a file that does not fit.
        RunError: published weights that no source gives as they should be.
    """
    backbone = find(name)
    module, init = backbone.build(), init or backbone.usual_init
    if init == RANDOM:
        return module, Start(init=init)

    def use(obtained: Obtained) -> Start:
        return fill(module, name, init, obtained)

    if init in backbone.weights:
        title = f"The {init} weights of {name}"
        return module, take(backbone.weights[init], use, title, quiet=quiet)
    if not Path(init).is_file():
        known = ", ".join([*backbone.weights, RANDOM])
        raise InputError(
            f"--init {init}: {name} starts from {known} or a file; there is no such file."
        )
    return module, use(Obtained(path=Path(init), file=Path(init).name, source=init))


def fill(module: nn.Module, name: str, init: str, obtained: Obtained) -> Start:
    """Copy a file's weights into a backbone's module.

    Raises:
        InputError: the file cannot be read, or does not fit.
    """
    backbone, path = find(name), obtained.path
    converted = backbone.convert(read_tensors(path))
    if converted is None:
        known = ", ".join(backbone.layouts)
        raise InputError(f"{path} holds no weights of {name} in a layout known here: {known}.")
    load_strictly(module, converted, f"{path} does not fit {name}")
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
        note=converted.note,
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
