"""For notebooks and programs: `run = mtlcli.train(dataset="rooms", ...)`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtlcli.errors import InputError
from mtlcli.runs.config import Conduct
from mtlcli.runs.names import resolve
from mtlcli.runs.options import CONDUCT, RUN, as_option, gather
from mtlcli.runs.run import Run
from mtlcli.systems import _settings as settings
from mtlcli.training import loop


def train(
    *,
    out: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    like: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Run:
    """Train a network as `mtl train` does, and return its run.

    from mtlcli import train
    run = train(dataset="rooms", system="multi_task", init="random", iterations=300)
    run.folder, run.iteration, run.log[-1]["total"]

    Args:
        out: folder of the run; by default weights/DATASET_BACKBONE_SYSTEM, numbered if that exists.
        resume: name or folder of a run to go on with, instead of a new one.
        like: name or folder of a run whose options are repeated.
        config: JSON file with options.
        options: those of `mtl train` by their names with underscores (`batch_size=4`,
            `tasks=["depth"]`, `from_run="nyud_small"`, `recipe="nyud/hrnet18/demt"`,
            `device="cpu"`, `quiet=True`), and the settings of the system (`steps=1`). They go
            before those of `like` and `config`.

    Returns:
        what the run folder says; `load` and `evaluate` take it as it is.

    Raises:
        InputError: a name, value or file that cannot be used.
        RunError: the loss is no longer finite, memory is short, or a file cannot be written.
    """
    carried = {n: read(n, v) for n, v in options.items() if n in CONDUCT}
    given = pick_config({name: v for name, v in options.items() if name not in CONDUCT})
    if resume is not None:
        if out is not None:
            raise InputError("resume continues a run in its own folder: leave out away.")
        if like is not None or config is not None:
            raise InputError("resume goes on with the run's options: leave like and config away.")
        own = Conduct(**carried)
        return Run.read(loop.resume(resolve(Path(resume), "resume"), given, conduct=own))
    chosen, said = gather(
        given, like=to_path(like), file=to_path(config), quiet=carried.get("quiet", False)
    )
    conduct = Conduct(**{**said, **carried})
    return Run.read(loop.train(chosen, out=to_path(out), conduct=conduct))


def to_path(given: str | os.PathLike[str] | None) -> Path | None:
    """A path, if one is given."""
    return None if given is None else Path(given)


def pick_config(options: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `RunConfig`; what is none of its fields is a setting of the system.

    Raises:
        InputError: a value of another type, or a name that is nearly an option's.
    """
    given = {name: read(name, value) for name, value in options.items() if name in RUN}
    others = {name: value for name, value in options.items() if name not in RUN}
    settings.refuse_typos(others, [settings.flag(name) for name in (*RUN, *CONDUCT)])
    return given | {"settings": {**given.get("settings", {}), **others}}


def read(name: str, value: Any) -> Any:
    """A value as the field of that name holds it: one task is a list of it, a run its path.

    Raises:
        InputError: a value of another type.
    """
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    value = [value] if name == "tasks" and isinstance(value, str) else value
    return as_option(name, value, f"{name}={value!r}:")
