"""Where runs are: by the names users type, all below a folder, and the one that ships.

A name means a folder or file as written, or below the home folder or its weights/, or the network
that comes with the package, for pictures before anything was trained. That lies in weights/NAME
of a checkout, and in share/mtlcli/weights/NAME of an installation. hf:USER/REPO[@REVISION] means a
run on the Hugging Face hub.
"""

import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from mtlcli.errors import InputError
from mtlcli.home import home, weights_dir
from mtlcli.lookup import suggest
from mtlcli.runs import hub_run
from mtlcli.runs.folder import LAST, PACKED, RECORD, is_packed, newest_file

SHIPPED = "nyud_small"
"""Name of the network that ships."""
CHECKPOINTS = (".pt", ".safetensors")
"""Endings of files that hold a network."""


def resolve(path: Path, option: str = "") -> Path:
    """The path of a run, of a folder of runs or of a checkpoint that the user has named.

    Args:
        path: as typed; a run of the hub is fetched, unless it is in the hub's cache.
        option: that it was typed after, for the error.

    Raises:
        InputError: there is nothing of this name; the message offers the nearest run.
        RunError: the hub does not give it.
    """
    if hub_run.is_name(path):
        return hub_run.fetch(path)
    places = (path, home() / path, weights_dir() / path)
    there = next((place for place in places if place.exists()), None)
    own = find_shipped() if path in (Path(SHIPPED), Path("weights", SHIPPED)) else None
    if own and not (there and is_run(there)):
        return own.parent
    if there:
        return there
    run = path.parent if path.suffix in CHECKPOINTS else path
    hint = suggest(run.as_posix().removeprefix("weights/"), list_names(), mark="")
    asked = f"{option} {path}".strip()
    raise InputError(
        f"{asked}: there is no run or checkpoint of this name.{hint} `mtl doctor` lists the runs."
    )


def file_of(path: Path, option: str = "") -> Path:
    """The checkpoint file that a path to it, to its run folder, or the name of a run means; the
    rest as `resolve`.
    """
    path = resolve(path, option)
    return newest_file(path) if path.is_dir() else path


def pin(path: Path, *, quiet: bool = False) -> Path:
    """A run's name that means the same for ever: that of the hub with its commit, once the run has
    been fetched; any other stays as typed (raises as `resolve`).
    """
    if not hub_run.is_name(path):
        return path
    return Path(hub_run.name_of(hub_run.fetch(path, quiet=quiet)) or path)


def title(folder: Path) -> str:
    """What a run is called in tables: the name of its folder, or of its repository on the hub."""
    return hub_run.repository(folder) or folder.resolve().name


def spoken(folder: Path) -> str:
    """What a command calls a run: its name on the hub, the shipped network's, or its folder."""
    return hub_run.name_of(folder) or (SHIPPED if is_shipped(newest_file(folder)) else str(folder))


def find(top: Path | None = None, depth: int | None = None) -> Iterator[Path]:
    """Every folder of a run below a folder, sorted.

    Args:
        top: weights/ by default.
        depth: how many levels below it to look, links followed; by default all.
    """
    top = top or weights_dir()
    for name, below, there in os.walk(top, followlinks=depth is not None):
        folder = Path(name)
        below.sort()
        if len(folder.relative_to(top).parts) == depth:
            below.clear()
        if RECORD in there or LAST in there or is_packed(folder):
            yield folder


def list_names() -> tuple[str, ...]:
    """The runs that can be named: folders below weights/, and the network that ships."""
    own = weights_dir()
    found = {folder.relative_to(own).as_posix() for folder in find() if folder != own}
    return tuple(sorted(found | ({SHIPPED} if find_shipped() else set())))


def is_run(folder: Path) -> bool:
    """Whether a run began in this folder, or a checkpoint was put there."""
    return any((folder / mark).is_file() for mark in (RECORD, LAST)) or is_packed(folder)


def find_shipped() -> Path | None:
    """The checkpoint that ships, or None where the package was installed without it."""
    beside = Path(__file__).parents[2] / "weights" / SHIPPED / PACKED
    return beside if beside.exists() else find_installed()


def find_installed() -> Path | None:
    """Where the installer has put the checkpoint that ships."""
    try:
        parts = files("mtlcli") or []
    except PackageNotFoundError:
        return None
    places = (Path(str(p.locate())) for p in parts if p.parts[-2:] == (SHIPPED, PACKED))
    return next((place for place in places if place.exists()), None)


def is_shipped(file: Path) -> bool:
    """Whether a checkpoint is the one in the package, beside which nothing is to be written."""
    own = find_shipped()
    return own is not None and file.resolve() == own.resolve()
