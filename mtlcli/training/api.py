"""For notebooks and programs: `run = mtlcli.train(dataset="rooms", ...)`."""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mtlcli.errors import InputError
from mtlcli.recipes._recipe import options as recipe_options
from mtlcli.runs.config import Conduct, RunConfig
from mtlcli.runs.names import resolve
from mtlcli.runs.run import Run
from mtlcli.systems import _settings as settings
from mtlcli.training import loop


def train(
    *,
    out: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Run:
    """Train a network as `mtl train` does, and return its run.

    from mtlcli import train
    run = train(dataset="rooms", system="multi_task", init="random", iterations=300)
    run.folder, run.iteration, run.log[-1]["total"]

    Args:
        out: folder of the run; by default weights/DATASET_BACKBONE_SYSTEM, numbered if that exists.
        resume: name or folder of a run to go on with, instead of a new one.
        options: those of `mtl train` by their names with underscores (`batch_size=4`,
            `tasks=["depth"]`, `recipe="nyud/hrnet18/demt"`, `device="cpu"`, `quiet=True`), and the
            settings of the system (`steps=1`).

    Returns:
        what the run folder says; `load` and `evaluate` take it as it is.

    Raises:
        InputError: a name, value or file that cannot be used.
        RunError: the loss is no longer finite, memory is short, or a file cannot be written.
    """
    kinds = get_type_hints(Conduct)
    conduct = Conduct(**read_options({n: v for n, v in options.items() if n in kinds}, kinds))
    given = pick_config({name: v for name, v in options.items() if name not in kinds})
    if resume is not None:
        if out is not None:
            raise InputError("resume continues a run in its own folder: leave out away.")
        return Run.read(loop.resume(resolve(Path(resume), "resume"), given, conduct=conduct))
    config = RunConfig(**(recipe_options(given["recipe"], given) if given.get("recipe") else given))
    return Run.read(loop.train(config, out=Path(out) if out is not None else None, conduct=conduct))


def pick_config(options: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `RunConfig`; what is none of its fields is a setting of the system.

    Raises:
        InputError: a value of another type, or a name that is nearly an option's.
    """
    kinds = get_type_hints(RunConfig)
    own = {n: [v] if n == "tasks" and isinstance(v, str) else v for n, v in options.items()}
    given = read_options({n: v for n, v in own.items() if n in kinds}, kinds)
    others = {n: v for n, v in own.items() if n not in kinds}
    known = [settings.flag(f.name) for record in (RunConfig, Conduct) for f in fields(record)]
    settings.refuse_typos(others, known)
    return given | {"settings": {**given.get("settings", {}), **others}}


def read_options(values: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The values as fields of these types hold them.

    Raises:
        InputError: a value of another type.
    """
    for name, value in values.items():
        if not fits(value, kinds[name]):
            wanted = getattr(kinds[name], "__name__", None) if not get_args(kinds[name]) else None
            raise InputError(f"{name}={value!r}: that has to be {wanted or kinds[name]}.")
    return {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, as far as options have types; whole numbers are numbers."""
    parts = get_args(kind)
    if isinstance(kind, UnionType) or get_origin(kind) is Union:
        return any(fits(value, part) for part in parts)
    if get_origin(kind) is Literal:
        return value in parts
    if get_origin(kind) is tuple:
        whole = isinstance(value, list | tuple) and (... in parts or len(value) == len(parts))
        return whole and all(fits(each, parts[0]) for each in value)
    if kind in (int, float):
        return isinstance(value, int if kind is int else (int, float)) and value is not bool(value)
    return isinstance(value, get_origin(kind) or (NoneType if kind is None else kind))
