"""The options of a run that begins, from all that names some: the command line, a recipe, another
run (--like, --from), a file (--config).

What is typed goes before what a file, run or recipe says, and that before what --from brings along.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mtlcli import lookup
from mtlcli.data.moments import Triple
from mtlcli.errors import InputError
from mtlcli.files import fits
from mtlcli.recipes import _recipe as recipes
from mtlcli.runs import hub_run
from mtlcli.runs.config import INHERITED, Conduct, RunConfig
from mtlcli.runs.names import file_of, pin, resolve
from mtlcli.runs.record import read_record
from mtlcli.systems import _settings as settings

NETWORK = ("system", "settings", "backbone")  # what --from brings along
DATA = ("dataset", "tasks", "size", "crop")  # and this, on the same dataset
RUN = {f.name: f for f in fields(RunConfig)}
CONDUCT = {f.name: f for f in fields(Conduct)}
TYPED = {"task": "tasks", "from": "from_run"}  # other names of fields


@dataclass(frozen=True, kw_only=True)
class Given:
    """Options that a file says."""

    run: Mapping[str, Any] = field(default_factory=dict)  # fields of `RunConfig`
    conduct: Mapping[str, Any] = field(default_factory=dict)  # of `Conduct`


def gather(
    typed: Mapping[str, Any],
    *,
    like: Path | None = None,
    file: Path | None = None,
    quiet: bool = False,
) -> tuple[RunConfig, Mapping[str, Any]]:
    """The options of a run that begins, and of its conduct what a file says.

    Args:
        typed: fields of `RunConfig`.
        like: run whose options are repeated.
        file: JSON with options.
        quiet: no progress bar of a download.

    Raises:
        InputError: two that say all options, or one that says what cannot be used.
        RunError: a run on the hub cannot be had.
    """
    named = {"--recipe": typed.get("recipe"), "--like": like, "--config": file}
    whole = [f"{option} {value}" for option, value in named.items() if value]
    if len(whole) > 1:
        raise InputError(f"{' and '.join(whole)} exclude each other: choose one.")
    said = read_options(file) if file else Given()
    repeated = options_of_run(like) if like else {}
    options = settings.merge(without_usual({**repeated, **said.run}, typed), typed)
    if options.get("recipe"):
        options = recipes.options(options["recipe"], options)
    if options.get("from_run"):
        try:
            options = inherit(options, {**said.run, **typed}, quiet)
        except InputError as error:
            if like is None or "from_run" in typed:
                raise
            raise InputError(
                f"--like {like} began with the weights of another run. {error} Or begin with its "
                f"own: --from {like}."
            ) from error
    return RunConfig(**options), said.conduct


def without_usual(said: Mapping[str, Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """What a run or file says, without what its backbone brought by itself if another is typed."""
    name = said.get("backbone")
    if name is None or typed.get("backbone", name) == name:
        return dict(said)
    from mtlcli.backbones import _backbone as backbones

    names = ("init", "mean", "deviation")
    try:
        its = backbones.find(name)
    except InputError:  # one of another version
        usual = {n: said.get(n) for n in names}
    else:
        usual = dict(zip(names, (its.usual_init, *its.moments)))
    return {n: value for n, value in said.items() if n not in names or value != usual[n]}


def options_of_run(run: Path) -> dict[str, Any]:
    """All options of a run that its record tells.

    Raises:
        InputError: there is no such run.
    """
    if hub_run.is_name(run):
        folder = hub_run.fetch(run, weights=False)
    else:
        path = resolve(run, "--like")
        folder = path if path.is_dir() else path.parent
    config = read_record(folder).config
    return {f.name: getattr(config, f.name) for f in fields(config)}


def inherit(options: Mapping[str, Any], explicit: Mapping[str, Any], quiet: bool) -> dict[str, Any]:
    """The options with what --from brings along, where they leave it open; a recipe leaves nothing.

    Args:
        options: that are known so far.
        explicit: of them, those that the user gave by themselves.
        quiet: no progress bar of a download.
    """
    from mtlcli.runs import checkpoint

    run = pin(Path(options["from_run"]), quiet=quiet)
    file = file_of(run, "--from")
    its, _ = checkpoint.facts_of(checkpoint.read(file), file)
    same = options.get("dataset", its.dataset) == its.dataset
    names = [*NETWORK, *(DATA if same else ())]
    if options.get("recipe"):
        names = []
    elif options.get("size"):
        names = [name for name in names if name != "crop"]
    brought = {name: getattr(its, name) for name in names}
    merged = settings.merge(brought, {**options, "from_run": str(run)})
    if merged["backbone"] == its.backbone:
        merged |= {"init": INHERITED} if "init" not in explicit else {}
        for name, value in zip(("mean", "deviation"), its.moments):
            merged[name] = merged.get(name) or value
    return merged


def read_options(path: Path) -> Given:
    """The options in a file: a run.json, or an object of options by their names.

    Raises:
        InputError: it is neither, or one is unknown or of another type.
    """
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"--config {path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"--config {path} is no JSON: {str(error).splitlines()[0]}.") from error
    if not isinstance(found, dict):
        raise InputError(f"--config {path} holds no options: it must be an object {{...}}.")
    content = found["config"] if isinstance(found.get("config"), dict) else found
    own = settings.all_names()
    given: dict[str, dict[str, Any]] = {"run": {}, "conduct": {}, "settings": {}}
    for key, value in content.items():
        name = key.removeprefix("--").replace("-", "_")
        name = TYPED.get(name, name)
        part = "run" if name in RUN else "conduct" if name in CONDUCT else "settings"
        if part == "settings" and name not in own:
            hint = lookup.suggest(key, [*RUN, *TYPED, *CONDUCT, *own])
            raise InputError(f"--config {path}: there is no option '{key}'.{hint}")
        said = f"--config {path}: '{key}' is {json.dumps(value)}, and"
        given[part][name] = value if part == "settings" else as_option(name, value, said)
    all_settings = {**given["run"].get("settings", {}), **given["settings"]}
    return Given(run=given["run"] | {"settings": all_settings}, conduct=given["conduct"])


def as_option(name: str, value: Any, said: str) -> Any:
    """A value as its field of `RunConfig` or `Conduct` has it.

    Args:
        name: of the field.
        value: from a file or a program.
        said: how the message of the error begins.

    Raises:
        InputError: it is of another type.
    """
    record, its = (RunConfig, RUN[name]) if name in RUN else (Conduct, CONDUCT[name])
    parse = its.metadata.get("parser")
    if parse:
        return parse(value)
    kind = get_type_hints(record)[name]
    if not fits(value, kind):
        raise InputError(f"{said} must be {say(kind)}.")
    return settings.cast(value, kind)


def say(kind: Any) -> str:
    """A type for people."""
    words: dict[Any, str] = {
        int: "an integer",
        float: "a number",
        str: "a text",
        bool: "true or false",
        tuple[str, ...]: "a list of texts",
        tuple[int, int]: "two integers [H, W]",
        tuple[float, float]: "two numbers [SMALLEST, LARGEST]",
        Triple: "three numbers [R, G, B]",
    }
    if kind in words:
        return words[kind]
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else ()
    return " or ".join(say(p) for p in parts if p is not NoneType) or "an object"
