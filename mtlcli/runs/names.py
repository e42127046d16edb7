"""What is meant by the name of a run: a folder or file as written, or below the home folder or its
weights/, or the network that comes with the package.
"""

from difflib import get_close_matches
from pathlib import Path

from mtlcli.errors import InputError
from mtlcli.home import home, weights_dir
from mtlcli.runs import shipped

MARKS = ("run.json", "last.pt")  # a run's folder has one of them at least
SHIPPED = (Path(shipped.NAME), Path("weights", shipped.NAME))


def meant(path: Path, option: str = "") -> Path:
    """The path of a run, of a folder of runs or of a checkpoint that the user has named.

    Args:
        path: as typed.
        option: that it was typed after, for the error.

    Raises:
        InputError: there is nothing of this name; the message offers the nearest run.
    """
    places = (path, home() / path, weights_dir() / path)
    there = next((place for place in places if place.exists()), None)
    own = shipped.shipped() if path in SHIPPED else None
    if own and not (there and is_run(there)):
        return own.parent
    if there:
        return there
    run = path.parent if path.suffix == ".pt" else path
    nearest = get_close_matches(run.as_posix().removeprefix("weights/"), names(), n=1)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    asked = f"{option} {path}".strip()
    raise InputError(
        f"{asked}: there is no run or checkpoint of this name.{hint} `mtl doctor` lists the runs."
    )


def names() -> tuple[str, ...]:
    """The runs that can be named: folders below weights/, and the network that ships."""
    own = weights_dir()
    folders = {file.parent for mark in MARKS for file in own.rglob(mark)}
    found = {folder.relative_to(own).as_posix() for folder in folders - {own}}
    return tuple(sorted(found | ({shipped.NAME} if shipped.shipped() else set())))


def is_run(folder: Path) -> bool:
    """Whether a run began in this folder, or a checkpoint was put there."""
    return any((folder / mark).is_file() for mark in MARKS)
