"""Links in a tar file: to files and to folders, wherever in it these stand."""

import os
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from tarfile import TarInfo

from mtlcli.errors import InputError

MOST = 40  # links on the way to a member, as on Linux
TOP = "."
Place = tuple[int, int]  # position and size of a member


def target_of(member: TarInfo, label: str) -> str:
    """The member a link leads to, "" if it is no link.

    Raises:
        InputError: it leads out of the archive.
    """
    if not (member.issym() or member.islnk()):
        return ""
    base = PurePosixPath(member.name).parent if member.issym() else PurePosixPath()
    target = os.path.normpath(base / member.linkname)
    if target.startswith(("/", "..")):
        raise InputError(f"{label}: member '{member.name}' links outside the archive; refusing it.")
    return target


def follow_links(index: Mapping[str, Place], links: Mapping[str, str]) -> dict[str, Place]:
    """The members that there are and those that links show, by name; what leads nowhere or in a
    circle shows nothing.
    """
    return dict(_below(TOP, index, links, ())) if links else dict(index)


def _below(
    folder: str, index: Mapping[str, Place], links: Mapping[str, str], way: tuple[str, ...]
) -> Iterator[tuple[str, Place]]:
    """What is below a folder, by its name from there; `way` are the folders that led to it."""
    for name, place in index.items():
        if _is_below(name, folder):
            yield _seen_from(name, folder), place
    for name in links:
        if not _is_below(name, folder):
            continue
        target, shown = _resolve(name, links), _seen_from(name, folder)
        if target in index:
            yield shown, index[target]
        elif target and not any(f == target or _is_below(f, target) for f in (name, *way)):
            for rest, place in _below(target, index, links, (*way, target)):
                yield f"{shown}/{rest}", place


def _is_below(name: str, folder: str) -> bool:
    return folder == TOP or name.startswith(f"{folder}/")


def _seen_from(name: str, folder: str) -> str:
    return name if folder == TOP else name.removeprefix(f"{folder}/")


def _resolve(name: str, links: Mapping[str, str]) -> str:
    """Where a name leads once every link on its way is followed, "" for a circle."""
    for _ in range(MOST):
        parts = (name, *map(str, PurePosixPath(name).parents))
        link = next((part for part in parts if part in links), None)
        if link is None:
            return name
        name = os.path.normpath(links[link] + name.removeprefix(link))
    return ""
