"""What may stand in the YAML file of a folder dataset: every entry, its type, and how to say so.

All of the file is read as text, so that an id or a class may look like anything (0010, 1.10, yes);
what is to be a number or true becomes so here.
"""

import math
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath
from typing import Any

from mtlcli.boundary.protocols import PROTOCOLS
from mtlcli.errors import InputError
from mtlcli.maps import is_usual, map_of, usual_kind
from mtlcli.maps._picture import LARGEST

LONGEST = 1000  # letters of a text, which may be a path
MOST_CLASSES = 255  # one value of a byte stays for "unlabelled"
NAME = re.compile(r"\w[\w.-]{0,99}")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Kind:
    """The values an entry may have."""

    words: str  # to follow "KEY must be"
    read: Callable[[Any], Any]  # what stands in the file -> the value; raises ValueError if none


def _word(value: Any) -> str:
    """Text, whatever it looks like."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    return _text(str(value))


def _text(value: Any) -> str:
    if not (isinstance(value, str) and value.strip() and value.isprintable()):
        raise ValueError
    if len(value) > LONGEST or any(len(part.encode()) > 255 for part in value.split("/")):
        raise ValueError
    return value


def _name(value: Any) -> str:
    if not NAME.fullmatch(_word(value)):
        raise ValueError
    return str(value)


def _number(value: Any) -> float:
    if isinstance(value, str) and NUMBER.fullmatch(value):
        value = float(value)
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _positive(value: Any) -> float:
    if _number(value) <= 0:
        raise ValueError
    return _number(value)


def _share(value: Any) -> float:
    if not 0 < _number(value) < 1:
        raise ValueError
    return _number(value)


def _flag(value: Any) -> bool:
    if isinstance(value, str):
        return {"true": True, "yes": True, "false": False, "no": False}[value.lower()]
    if not isinstance(value, bool):
        raise ValueError
    return value


def _pattern(value: Any) -> str:
    """As the names of files are told: ./images//{id}.jpg is images/{id}.jpg."""
    rest = _text(value).replace("{id}", "")
    if rest == value or set(rest) & set("{}"):
        raise ValueError
    if value.startswith("/") or ".." in value.split("/"):
        raise ValueError
    return normpath(value)


def _size(value: Any) -> tuple[int, int]:
    height, width = map(_number, _listed(value))
    if not (height % 1 == width % 1 == 0 and min(height, width) >= 32):
        raise ValueError
    if height * width > LARGEST:
        raise ValueError
    return int(height), int(width)


def _mapping(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict) or not value:
        raise ValueError
    return value


def _splits(value: Any) -> dict[Any, Any]:
    if "train" not in _mapping(value):
        raise ValueError
    return dict(value)


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError
    return value


def _words(value: Any) -> list[str]:
    return [_word(each) for each in _listed(value)]


def _classes(value: Any) -> list[str]:
    names = _words(value)
    if len(names) > MOST_CLASSES or len(set(names)) < len(names):
        raise ValueError
    return names


def _protocol(value: Any) -> str:
    if value not in PROTOCOLS:
        raise ValueError
    return str(value)


PATTERN = Kind(
    "one text with {id} and no other braces, of files below root, such as images/{id}.jpg", _pattern
)
POSITIVE = Kind("a number above 0", _positive)
SHARE = Kind("a number between 0 and 1", _share)
ENTRIES = {
    "name": Kind("letters, digits, points and dashes", _name),
    "title": Kind("a text", _word),
    "root": Kind("the path of a folder", _text),
    "size": Kind(
        f"[height, width], each at least 32, of at most {LARGEST // 10**6} megapixels", _size
    ),
    "splits": Kind("names with their pictures, at least train", _splits),
    "image": PATTERN,
    "tasks": Kind("names of tasks with their entries", _mapping),
}
REQUIRED = ("size", "splits", "image", "tasks")
TASK_ENTRIES = {
    "files": PATTERN,
    "classes": Kind(
        f"a list of at most {MOST_CLASSES} names, such as [grass, path], none twice", _classes
    ),
    "kind": Kind("a kind of map, such as classes or depth", _text),
    "title": Kind("a text", _word),
    "metres": POSITIVE,
    "scale": POSITIVE,
    "unit": Kind("a text, such as °C", _word),
    "zoom": Kind("true or false", _flag),
    "protocol": Kind(f"a boundary protocol, one of {', '.join(PROTOCOLS)}", _protocol),
    "positive_weight": SHARE,
    "max_dist": SHARE,
}
ANYTHING = Kind("", lambda value: value)  # of a kind of map that came later


def _ids(value: Any) -> str | list[str]:
    return _text(value) if isinstance(value, str) else _words(value)


SPLIT = Kind("a text file with one id a line, or a list of ids", _ids)
# What stands beside the tasks in a dataset file, and in a sample that is scored.
TAKEN = ("image", "ids", "present", "crc32", "size", "inside")


def check(path: Path, said: Any) -> dict[str, Any]:
    """Go through everything that a YAML file says, and give it back as what it means.

    Raises:
        InputError: names the entry, what it must be and what it is.
    """
    if not isinstance(said, dict):
        raise InputError(f"{path}: expected entries such as image: and tasks:.")
    found = _check_entries(path, "", said, ENTRIES, REQUIRED)
    for split, value in found["splits"].items():
        if not (isinstance(split, str) and NAME.fullmatch(split)):
            raise InputError(f"{path}: splits: {_shown(split)} is no name; write e.g. 'val'.")
        found["splits"][split] = _check_value(path, f"splits: {split}", value, SPLIT)
    return found | {"tasks": {t: _check_task(path, t, e) for t, e in found["tasks"].items()}}


def _check_task(path: Path, task: Any, entry: Any) -> dict[str, Any]:
    if not (isinstance(task, str) and NAME.fullmatch(task)) or "." in task:
        raise InputError(f"{path}: tasks: {_shown(task)} is no name; write e.g. 'depth'.")
    if is_taken(task):
        raise InputError(
            f"{path}: tasks: '{task}' has a meaning of its own in the program; choose another "
            f"name, such as 'my_{task}'."
        )
    where = f"task '{task}': "
    if not isinstance(entry, dict):
        raise InputError(f"{path}: {where}needs entries, such as files: {task}/{{id}}.png.")
    if "kind" in entry:
        _check_value(path, f"{where}kind", entry["kind"], TASK_ENTRIES["kind"])
    try:
        its = map_of(task, {task: entry["kind"]} if "kind" in entry else {})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if is_usual(task) and entry.get("kind", usual_kind(task)) != usual_kind(task):
        raise InputError(
            f"{path}: {where}its kind is {usual_kind(task)}, not {entry['kind']}; leave kind out, "
            "or give the task another name."
        )
    if {"metres", "scale"} <= entry.keys():
        raise InputError(f"{path}: {where}metres and scale say the same; leave one of them out.")
    required = ("files", "classes") if its.has_classes else ("files",)
    allowed = (*required, "kind", "title", *its.settings)
    known = {key: TASK_ENTRIES.get(key, ANYTHING) for key in allowed}
    return _check_entries(path, where, entry, known, required)


def is_taken(task: str) -> bool:
    """Whether a name cannot be that of a task: parts of a network are attributes of a module of
    torch, which has attributes of its own, such as `type` and `items`.
    """
    if is_usual(task) or task in TAKEN:
        return task in TAKEN
    from torch.nn import ModuleDict  # takes seconds, which usual tasks do not need

    return hasattr(ModuleDict(), task)


def _check_entries(
    path: Path,
    where: str,
    said: Mapping[Any, Any],
    kinds: Mapping[str, Kind],
    required: tuple[str, ...],
) -> dict[str, Any]:
    for key in said:
        if key not in kinds:
            known = ", ".join(sorted(kinds))
            raise InputError(f"{path}: {where}unknown entry {_shown(key)}; known: {known}.")
    for key in required:
        if key not in said:
            raise InputError(f"{path}: {where}lacks the entry '{key}': {kinds[key].words}.")
    return {k: _check_value(path, f"{where}{k}", v, kinds[k]) for k, v in said.items()}


def _check_value(path: Path, where: str, value: Any, kind: Kind) -> Any:
    try:
        return kind.read(value)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise InputError(f"{path}: {where} must be {kind.words}, not {_shown(value)}.") from error


def _shown(value: Any) -> str:
    """A value in few letters, however large or deep it is."""
    brief = reprlib.Repr()
    brief.maxlevel, brief.maxlist, brief.maxdict, brief.maxstring = 2, 4, 4, 60
    return brief.repr(value)
