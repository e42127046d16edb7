"""A backbone's published weights: from weights/, else from the first source that can give them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mtlcli.backbones._weights import HubFile, Source, Sources
from mtlcli.data import hub
from mtlcli.data.download import Downloader
from mtlcli.data.mirror import MirrorError
from mtlcli.data.progress import Bars
from mtlcli.datasets._dataset import Remote
from mtlcli.errors import MtlError, RunError
from mtlcli.home import weights_dir

Taken = TypeVar("Taken")


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
    reasons = []
    for source in sources:
        try:
            return use(obtain(source, quiet))
        except (MtlError, MirrorError) as error:
            reasons.append(f"  {source.title}: {' '.join(str(error).split())}")
    places = " or ".join(dict.fromkeys(str(at_hand(source).resolve()) for source in sources))
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
    if not isinstance(source, HubFile):
        return obtain(source, quiet)
    path = at_hand(source)
    return Obtained(path=path, file=source.file, source=str(path), licence=source.licence)


def obtain(source: Source, quiet: bool) -> Obtained:
    """The file from one source, verified.

    Raises:
        MirrorError, DownloadError: it cannot be had, or is not the right one.
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
    folder = weights_dir()
    remote = Remote(file=source.file, urls=(source.url,), sha256=source.sha256)
    downloader = Downloader(folder=folder, ledger=folder / "sources.json", bars=Bars(quiet))
    path = downloader.fetch(remote)
    return Obtained(
        path=path, file=source.file, source=source.url, url=source.url, licence=source.licence
    )
